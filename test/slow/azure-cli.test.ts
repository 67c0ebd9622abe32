import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { deploy, type Template } from '../support/arm.ts';
import { HOLDER, PLACE, PRUNER, REPORT, runWithAzure, setUp, WRITER } from '../support/azure-cli.ts';
import { docsPage } from '../support/docs-page.ts';
import { findJudge, without } from '../support/judges.ts';
import { collect, run, temporaryFolder } from '../support/process.ts';

const TEMPLATE = join(import.meta.dirname, '..', '..', 'manifests', 'azure', 'template.json');
const MODELS = join(import.meta.dirname, '..', 'support', 'arm-models.py');

const dir = temporaryFolder('azure-config');
const skip = without('az');

/** The Azure CLI itself, not logged in and told to keep to itself. It is asked nothing that it could not answer offline. */
async function az(args: readonly string[]): Promise<string> {
  const { stderr } = await run(findJudge('az') ?? 'az', args, {
    AZURE_CONFIG_DIR: dir,
    AZURE_CORE_COLLECT_TELEMETRY: 'false',
    AZURE_CORE_NO_COLOR: 'true',
  });
  return stderr;
}

t.test("the Azure CLI's own parser understands every command of the script", { skip }, async (t) => {
  const issuer = ['--workload-identity', 'https://issuer.example/', '--identity-may-prune'];
  const args = [...PLACE, '--writer', WRITER, '--pruner', PRUNER, ...issuer, '--immutable-days', '30'];
  const others = [...PLACE, '--writer', WRITER, '--reader', PRUNER, '--report', REPORT, '--legal-hold', HOLDER];
  const [, identity = ''] = docsPage('azure.md').blocksOf('The identities of copy, report and drill');
  const own = await runWithAzure(['-c', identity], {}, { ISSUER: 'https://issuer.example/' });
  const runs = [await setUp(args), await setUp(args, { roles: true }), await setUp(others), own];
  const all = runs.flatMap(({ calls }) => calls);
  const commands = new Map(
    all.map((call) => [call.filter((word, at) => at < 4 || word.startsWith('--')).join(' '), call]),
  );
  t.ok(commands.size > 10, [...commands.keys()].join('\n'));
  // What it parsed it would carry out, and for that it wants to know who asks.
  const judge = async (call: readonly string[]): Promise<unknown> =>
    t.match(await az(call), /az login/, call.join(' '));
  await judge(['account', 'show']);
  await Promise.all([...commands.values()].map(judge));
  t.notMatch(await az(['group', 'create', '--name', 'x', '--place', 'y']), /az login/, 'and it does refuse');
});

t.test('Azure’s own models know every property of the template', { skip }, async (t) => {
  const template = JSON.parse(readFileSync(TEMPLATE, 'utf8')) as Template;
  const { resources } = deploy(template, {
    accountName: 'account',
    containerName: 'my-cluster',
    writerPrincipalIds: [WRITER],
    prunerPrincipalIds: [PRUNER],
    reportPrincipalIds: [REPORT],
    legalHoldPrincipalIds: [HOLDER],
    immutabilityDays: 30,
    allowedIpRanges: ['192.0.2.1'],
    allowedSubnetIds: ['/subscriptions/s/subnet'],
    workloadIdentityIssuer: 'https://issuer.example/',
  });
  const judge = async (judged: unknown): Promise<string> => {
    const child = spawn('/usr/bin/python3', [MODELS], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.end(JSON.stringify(judged));
    const { code, stdout, stderr } = await collect(child);
    t.equal(code, 0, stderr);
    return stdout;
  };
  t.equal(await judge(resources), '');
  const misspelt = JSON.parse(JSON.stringify(resources).replaceAll('minimumTlsVersion', 'minTlsVersion'));
  t.match(
    await judge(misspelt),
    /^Microsoft.Storage\/storageAccounts.properties.minTlsVersion\n$/,
    'and they do refuse',
  );
});
