import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { faultCampaign, startClusters } from '../support/fault-campaign.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('faults');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

t.test('some runs with random faults between worker and Azurite; the slow tests have many', async (t) => {
  const clusters = await startClusters(t, join(dir, 'etcd'));
  const { counts, failures } = await faultCampaign(azurite, clusters, 'some', 20, 6);
  t.strictSame(failures, []);
  t.comment(counts);
});
