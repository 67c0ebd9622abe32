import type { EtcdConfig } from '../config.ts';
import { UnsafeError } from '../errors.ts';
import { connectAll } from '../etcd/connect.ts';
import { proveQuorum } from '../etcd/probes.ts';
import type { Findings } from '../findings.ts';

/**
 * Refuses to restore over a cluster that works, where its endpoints are configured.
 * @throws UnsafeError; UsageError for certificate files that cannot be used
 */
export async function demandNoQuorum(config: EtcdConfig | undefined, findings: Findings): Promise<void> {
  if (config === undefined) {
    findings.add('SNAPSHOT_ETCD_ENDPOINTS is not set, so nobody asked whether the cluster still has its quorum.');
    return;
  }
  const connections = await connectAll(config, new Date(), findings);
  const proofs = await Promise.allSettled(connections.configured.map(proveQuorum));
  connections.close();
  if (!proofs.some(({ status }) => status === 'fulfilled')) return;
  throw new UnsafeError(
    'The cluster has its quorum: a restore would throw away everything that was written since the snapshot.',
    'Replace members that failed with `etcd-snapshot replace-member`. To go back in time on purpose, give --force.',
  );
}
