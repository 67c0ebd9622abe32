import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { faultCampaign, startClusters } from '../support/fault-campaign.ts';
import { temporaryFolder } from '../support/process.ts';

/** A seed that is named does the same again; each run has the next one. */
const SEED = Number(process.env['FAULTS_SEED'] ?? Date.now() % 1_000_000);
const RUNS = Number(process.env['FAULTS_RUNS'] ?? 300);

const dir = temporaryFolder('faults');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

t.setTimeout(3_600_000);

t.test(`${RUNS} runs with random faults between worker and Azurite`, async (t) => {
  t.comment(`FAULTS_SEED=${SEED}`);
  const clusters = await startClusters(t, join(dir, 'etcd'));
  // The runs wait most of their time, so two go on at once, each with containers of its own.
  const half = Math.ceil(RUNS / 2);
  const [first, second] = await Promise.all([
    faultCampaign(azurite, clusters, 'first', SEED, half),
    faultCampaign(azurite, clusters, 'second', SEED + half, RUNS - half),
  ]);
  t.strictSame([...first.failures, ...second.failures], []);
  t.comment(JSON.stringify([first.counts, second.counts], undefined, 1));
});
