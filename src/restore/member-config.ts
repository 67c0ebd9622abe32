import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { parse } from 'yaml';
import { UsageError } from '../errors.ts';
import { cleaned } from '../reader.ts';

/** What a member's own configuration says of it; names are those of etcd's flags, undefined = not set there. */
export interface MemberConfig {
  readonly name: string | undefined;
  readonly initialCluster: string | undefined;
  readonly initialClusterToken: string | undefined;
  readonly initialAdvertisePeerUrls: string | undefined;
  readonly dataDir: string | undefined;
  readonly walDir: string | undefined;
}

/**
 * Reads how a member is started: an environment file such as `/etc/default/etcd`, with all flags in `DAEMON_ARGS` or with
 * `ETCD_…` variables, or the manifest of a static pod such as `/etc/kubernetes/manifests/etcd.yaml`.
 * @throws UsageError when it cannot be read, or names no member
 */
export async function readMemberConfig(path: string): Promise<MemberConfig> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new UsageError(`The file ${path} cannot be read.`, 'Check the path of --from and its permissions.', error);
  });
  const config = parseMemberConfig(text, /\.ya?ml$/.test(path) ? 'manifest' : 'environment');
  if (config?.name !== undefined) return config;
  throw new UsageError(
    `${path} says nothing of an etcd member: it has no name.`,
    'Name /etc/default/etcd or /etc/kubernetes/manifests/etcd.yaml, or give --name and the others by hand.',
  );
}

/** Undefined when the text is no configuration of etcd's. */
export function parseMemberConfig(text: string, format: 'environment' | 'manifest'): MemberConfig | undefined {
  const found = format === 'manifest' ? fromManifest(text) : fromEnvironmentFile(text);
  if (found === undefined) return undefined;
  const flags = flagsOf(found.words);
  const value = (flag: string): string | undefined =>
    flags.get(flag) ?? cleaned(found.variables.get(`ETCD_${flag.toUpperCase().replaceAll('-', '_')}`));
  return {
    name: value('name'),
    initialCluster: value('initial-cluster'),
    initialClusterToken: value('initial-cluster-token'),
    initialAdvertisePeerUrls: value('initial-advertise-peer-urls'),
    dataDir: value('data-dir'),
    walDir: value('wal-dir'),
  };
}

interface Found {
  /** The command line's words. */
  readonly words: readonly string[];
  /** They count only where no flag is given. */
  readonly variables: ReadonlyMap<string, string>;
}

function fromEnvironmentFile(text: string): Found {
  const lines = text.split('\n').flatMap((line) => {
    const [, name, value] = /^\s*(?:export\s+)?(\w+)=(.*)$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value] as const];
  });
  const variables = new Map(lines);
  return { words: wordsOf(cleaned(variables.get('DAEMON_ARGS')) ?? ''), variables };
}

function fromManifest(text: string): Found | undefined {
  const manifest = parseYaml(text);
  for (const container of list(at(at(manifest, 'spec'), 'containers'))) {
    const words = [...list(at(container, 'command')), ...list(at(container, 'args'))].map(String);
    if (!words.some((word) => basename(word) === 'etcd')) continue;
    const variables = list(at(container, 'env')).map(
      (entry) => [String(at(entry, 'name')), String(at(entry, 'value'))] as const,
    );
    return { words, variables: new Map(variables) };
  }
  return undefined;
}

function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function at(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Object.getOwnPropertyDescriptor(value, key)?.value : undefined;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Words of a line; quotation marks keep spaces together and are no part of a word. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) => word.replaceAll(/["']/g, ''));
}

/** Flags with their values, which stand behind an equals sign or are the next word; one or two hyphens are the same to etcd. */
function flagsOf(words: readonly string[]): Map<string, string> {
  const flags = new Map<string, string>();
  for (const [i, word] of words.entries()) {
    const [, name, value] = /^--?([\w-]+)(?:=(.*))?$/.exec(word) ?? [];
    if (name === undefined) continue;
    const next = words[i + 1];
    const found = value ?? (next === undefined || next.startsWith('-') ? undefined : next);
    if (found !== undefined && found !== '') flags.set(name, found);
  }
  return flags;
}
