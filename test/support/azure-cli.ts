import { chmod, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { run, temporaryFolder } from './process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const SETUP = join(ROOT, 'manifests', 'azure', 'setup.sh');

export const WRITER = '11111111-1111-1111-1111-111111111111';
export const PRUNER = '22222222-2222-2222-2222-222222222222';
export const REPORT = '44444444-4444-4444-4444-444444444444';
export const HOLDER = '55555555-5555-5555-5555-555555555555';
/** Of the managed identity that the stand-in makes. */
export const IDENTITY = '33333333-3333-3333-3333-333333333333';
export const PLACE = [
  '--group',
  'group',
  '--location',
  'westeurope',
  '--account',
  'account',
  '--container',
  'my-cluster',
];

export interface SetUp {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The arguments of each call of the Azure CLI. */
  readonly calls: readonly (readonly string[])[];
}

/** What is in Azure when the script runs. */
interface Found {
  readonly loggedIn?: boolean;
  readonly roles?: boolean;
  readonly policy?: 'Locked' | 'Unlocked';
  /** Of a container: whether it has version-level immutability support. */
  readonly versions?: boolean;
}

const dir = temporaryFolder('azure-cli');

/** Runs the set-up script, see `runWithAzure`. */
export async function setUp(args: readonly string[], found: Found = {}): Promise<SetUp> {
  return runWithAzure([SETUP, ...args], found);
}

/** Runs bash with a stand-in for the Azure CLI, which notes what it is told and knows what the script asks. */
export async function runWithAzure(
  args: readonly string[],
  { loggedIn = true, roles = false, policy, versions = true }: Found = {},
  env: Readonly<Record<string, string>> = {},
): Promise<SetUp> {
  const bin = await mkdtemp(join(dir, 'bin-'));
  const notes = join(bin, 'notes');
  await writeFile(notes, '');
  await writeFile(
    join(bin, 'az'),
    `#!/bin/sh
{ printf '%s\\036' "$@"; printf '\\035'; } >> ${notes}
case "$*" in
  'account show'*) exit ${loggedIn ? 0 : 1} ;;
  'group create'*) echo /subscriptions/s/resourceGroups/group ;;
  'role definition list'*) ${roles ? 'echo there' : ':'} ;;
  'storage container-rm show'*immutableStorageWithVersioning*) echo ${versions} ;;
  'storage container-rm show'*) echo '${policy ?? ''}' ;;
  'identity show'*) echo ${IDENTITY} ;;
  'identity create'*) printf '%s\\n' ${IDENTITY} client-id ;;
esac`,
  );
  await chmod(join(bin, 'az'), 0o755);
  const PATH = `${bin}${delimiter}${process.env['PATH'] ?? ''}`;
  const { code, stdout, stderr } = await run('bash', args, { ...env, PATH }, ROOT);
  const calls = (await readFile(notes, 'utf8')).split('\x1d').slice(0, -1);
  return { code, stdout, stderr, calls: calls.map((call) => call.split('\x1e').slice(0, -1)) };
}
