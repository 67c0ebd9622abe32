/**
 * Compares this worker with the shell chain that it replaces and with lower limits, in one run, in turns. Prints Markdown tables
 * with ratios.
 *
 *   npm run bench -- [--sizes 3MB,240MB,0.7GB,2GB] [--rounds 5] [--stores azurite,https,http] [--sections startup,backup,tricks,sealed,impact,files,copy]
 *                    [--memory /dev/shm] [--disk /tmp] [--smoke] [--write]
 *   npm run bench -- --sections uplink,verifier
 *   npm run bench -- --sections objects --sizes 2GB --rounds 3
 *   npm run bench -- --sections memory --sizes 240MB,8GB --rounds 1
 *   npm run bench -- --sections fleet
 *   npm run bench -- --scale
 *
 * --smoke: 3 MB, one round. --write: puts the tables into docs/benchmarks.md. The last table has the goals. Progress goes to stderr.
 */
import { cpus, tmpdir, totalmem } from 'node:os';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeAuthority, trust } from '../test/support/certificates.ts';
import { findEtcd } from '../test/support/etcd.ts';
import { type Bench, makeCompileCache, say } from './bench.ts';
import { bytesOf, GB, MB } from './figures.ts';
import { otherLoad } from './measure.ts';
import { publishTables } from './results-page.ts';
import { scaleReport } from './scale.ts';
import { backupSection } from './sections/backup.ts';
import { copySection } from './sections/copy.ts';
import { filesSection } from './sections/files.ts';
import { fleetSection } from './sections/fleet.ts';
import { impactSection } from './sections/impact.ts';
import { memorySection } from './sections/memory.ts';
import { sealedSection } from './sections/sealed.ts';
import { objectsSection } from './sections/objects.ts';
import { startupSection } from './sections/startup.ts';
import { tricksSection } from './sections/tricks.ts';
import { uplinkSection } from './sections/uplink.ts';
import { verifierSection } from './sections/verifier.ts';
import { STORES, type StoreName } from './target.ts';
import { type Report, type Target, targetTable } from './verdicts.ts';

const { values: options } = parseArgs({
  options: {
    sizes: { type: 'string', default: '3MB,240MB,0.7GB,2GB' },
    rounds: { type: 'string', default: '5' },
    stores: { type: 'string' },
    sections: { type: 'string', default: 'startup,backup,tricks,sealed,impact,files,copy' },
    memory: { type: 'string', default: existsSync('/dev/shm') ? '/dev/shm' : tmpdir() },
    disk: { type: 'string', default: tmpdir() },
    smoke: { type: 'boolean', default: false },
    scale: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});

const SECTIONS: Readonly<Record<string, (bench: Bench) => Promise<Report>>> = {
  startup: startupSection,
  backup: backupSection,
  /** Of the size up to which everything is quick, and of the largest one. */
  impact: async (bench) => impactSection(bench, Math.max(...bench.sizes.filter((size) => size < GB), 3 * MB)),
  files: async (bench) => filesSection(bench, largest(bench)),
  copy: async (bench) => copySection(bench, largest(bench)),
  sealed: async (bench) => sealedSection(bench, largest(bench)),
  /** Of the sizes up to which everything is quick. */
  tricks: async (bench) =>
    tricksSection(
      bench,
      bench.sizes.filter((size) => size < GB / 2),
    ),
  memory: memorySection,
  objects: async (bench) => objectsSection(bench, largest(bench)),
  fleet: fleetSection,
  uplink: uplinkSection,
  verifier: verifierSection,
};

/** Beyond 2 GB, a section that is not about memory takes too long. */
function largest({ sizes }: Bench): number {
  return Math.max(...sizes.filter((size) => size <= 2 * GB), 3 * MB);
}

/** The share of the machine that other programs may use before a run. */
const QUIET = 0.05;

async function main(): Promise<number> {
  if (options.scale) {
    console.log(scaleReport());
    return 0;
  }
  const names = options.sections.split(',');
  const bench = await prepare();
  const load = await otherLoad();
  if (load > QUIET)
    say(`WARNING: other programs use ${percent(load)} of this machine; the figures below are not those of a quiet one`);
  const [tables, targets]: [string[], Target[]] = [[], []];
  for (const name of names) {
    const section = SECTIONS[name];
    if (section === undefined) throw new Error(`there is no section ${name}, only ${Object.keys(SECTIONS).join(', ')}`);
    say(`section ${name}`);
    const report = await section(bench);
    tables.push(...report.tables);
    targets.push(...report.targets);
  }
  if (targets.length > 0) tables.push(targetTable(targets));
  const text = [conditions(bench, load), ...tables].join('\n\n');
  console.log(text);
  if (options.write) await publishTables(text);
  if (!/\bNaN\b|Infinity|undefined/.test(text)) return 0;
  console.error('Some cells are empty.');
  return 1;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

async function prepare(): Promise<Bench> {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('there is no etcd');
  const memory = temporary(options.memory);
  const tls = await makeAuthority(join(memory, 'certificates'));
  await trust(tls);
  await makeCompileCache(memory);
  const hasCli = (process.env['PATH'] ?? '').split(delimiter).some((dir) => existsSync(join(dir, 'az')));
  if (!hasCli) say("without the Azure CLI (`az`) the shell worker's chain is not measured");
  return {
    ...{ tools, tls, memory, hasCli },
    disk: temporary(options.disk),
    rounds: options.smoke ? 1 : Number(options.rounds),
    sizes: options.smoke ? [3 * MB] : options.sizes.split(',').map(bytesOf),
    stores: options.stores?.split(',').map(storeOf) ?? (options.smoke ? ['azurite', 'https'] : undefined),
  };
}

function storeOf(name: string): StoreName {
  const store = STORES.find((known) => known === name);
  if (store === undefined) throw new Error(`there is no store ${name}, only ${STORES.join(', ')}`);
  return store;
}

/** Removed when the process ends, after the servers that keep files there. */
function temporary(parent: string): string {
  const folder = mkdtempSync(join(parent, 'etcd-snapshot-bench-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }));
  return folder;
}

function conditions({ tools, rounds, hasCli }: Bench, load: number): string {
  const memory = `${Math.round(totalmem() / 1024 ** 3)} GiB`;
  const when = `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`;
  return [
    `Measured on ${when}: ${cpus().length} cores for everything together, ${memory}, Node ${process.versions.node}, etcd`,
    `${tools.version}${hasCli ? '' : ', no Azure CLI'}; ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds (least–greatest)`}.`,
    'A ratio is the median of the ratios of each round.',
    ...(load > QUIET ? [`**Other programs used ${percent(load)} of the machine when the run began.**`] : []),
  ].join(' ');
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
