import type { Config } from '../config/config.ts';
import { checkBundle } from '../doctor/check-bundle.ts';
import { checkCopy } from '../doctor/check-copy.ts';
import { checkKeys } from '../doctor/check-keys.ts';
import { checkOpening, checkRecipients } from '../doctor/check-encryption.ts';
import { checkEtcd } from '../doctor/check-etcd.ts';
import { checkSignatures, checkSpool, checkTool } from '../doctor/check-host.ts';
import { checkStorage } from '../doctor/check-storage.ts';
import { type Check, ok } from '../doctor/check.ts';
import { WorkerError } from '../errors.ts';
import type { ClusterIds } from '../snapshot/inventory.ts';
import { isEncrypted } from '../snapshot/snapshot-name.ts';
import { openNewest, type SnapshotSource } from '../snapshot/source.ts';
import { afterColon, alignColumns, counted } from '../text.ts';
import { type Arguments, type Context, openCopy, openStore, type Outcome } from './command.ts';
import { readEncryptionConfig } from './known-keys.ts';
import { withKnownIdentities } from './snapshot-operand.ts';

/** Checks everything that a backup and a restore will need. Changes nothing. */
export async function doctor(context: Context, { options }: Arguments): Promise<Outcome> {
  const { config, log, searchPath, signal, signatures } = context;
  const { 'encryption-config': file } = options;
  const now = new Date();
  if (config.etcd === undefined) throw new Error('the command did not say that it needs etcd');
  const store = await openStore(context);
  const asked = checkEtcd(config.etcd, now);
  const ids = async (): Promise<ClusterIds> => ({
    ...config.retention,
    clusterId: (await asked).statuses[0]?.clusterId,
  });
  const [etcd, storage] = await Promise.all([asked, checkStorage(store, config.retention, now, ids)]);
  const findNewest = async (): Promise<SnapshotSource> => openNewest(store, await ids(), log);
  const openNewestSnapshot = async (): Promise<SnapshotSource> => withKnownIdentities(await findNewest(), context, {});
  const dbSize = Math.max(0, ...etcd.statuses.map((status) => status.dbSize));
  const checks = [
    configuration(config),
    ...(signatures === undefined ? [] : [checkSignatures(signatures)]),
    ...etcd.checks,
    await checkSpool(config, dbSize),
    ...storage,
    ...(config.copy === undefined ? [] : await checkCopy(store, await openCopy(context), config.retention, now, ids)),
    ...(await checkRecipients(config.sealing, findNewest)),
    ...(await checkBundle(config.bundle)),
    ...(usesEncryption(config)
      ? await checkOpening(openNewestSnapshot, async (isMeant) => store.lastDrill(isMeant), now)
      : []),
    ...(typeof file === 'string' ? await checkKeys(findNewest, async () => readEncryptionConfig(file)) : []),
    ...(await checkTool(searchPath, etcd.statuses, signal)),
  ];
  const failed = checks.filter(({ state }) => state === 'fail');
  const count = (wanted: Check['state']): number => checks.filter(({ state }) => state === wanted).length;
  const summary = `${count('ok')} ok, ${counted(count('warn'), 'warning')}, ${counted(failed.length, 'failure')}`;
  return {
    text: [alignColumns(['STATE', 'CHECK', 'RESULT'], checks.flatMap(rows)), '', summary].join('\n'),
    summary,
    json: {
      ok: failed.length === 0,
      checks: checks.map(({ what, state, finding, hint }) => ({ check: what, state, finding, hint: hint ?? null })),
    },
    ...(failed[0] && { partialFailure: partialFailure(failed, failed[0]) }),
  };
}

function usesEncryption({ sealing, identityFile }: Config): boolean {
  return identityFile !== undefined || (sealing !== undefined && isEncrypted(sealing.encoding));
}

/** Always ok: a configuration error has ended the program earlier. */
function configuration({ etcd, storage }: Config): Check {
  const endpoints = etcd?.endpoints.length ?? 0;
  const place = `container ${storage?.container}${storage?.prefix ? `, prefix ${storage.prefix}` : ''}`;
  return ok('configuration', `${counted(endpoints, 'etcd endpoint')}, ${place}.`);
}

function rows({ what, state, finding, hint }: Check): string[][] {
  return [[state, what, finding], ...(hint === undefined ? [] : [['', '', `→ ${hint}`]])];
}

function partialFailure(failed: readonly Check[], first: Check): WorkerError {
  const count = `${counted(failed.length, 'check')} failed`;
  return new WorkerError(first.exitCode ?? 1, `${count}, the first: ${afterColon(first.finding)}`, first.hint ?? '');
}
