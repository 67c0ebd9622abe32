import { basename } from 'node:path';
import { cleaned } from '../config/environment.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { at, list, mountsOf, onHost, parseDocument, wordsOfContainer } from './pod-manifest.ts';
import { printable } from '../text.ts';
import { assertDirectory } from './plan.ts';

/** How a program is started. */
interface CommandLine {
  /** Of the command line; what is known only at run time stays as it is written, such as `${NAME}`. */
  readonly words: readonly string[];
  /** Flags take precedence over them. */
  readonly variables: ReadonlyMap<string, string>;
  /** Files with more variables, which a unit names. */
  readonly environmentFiles?: readonly string[];
  /** Of a pod: paths on the host by paths in the container. */
  readonly mounts?: ReadonlyMap<string, string>;
  /** A `$` is part of a value, as nothing is expanded. */
  readonly isLiteral?: boolean;
}

/** Quoted values of an environment file can have several lines, and a backslash joins two. */
function environmentOf(text: string): CommandLine {
  const joined = text.replaceAll(/\\\r?\n/g, ' ').replaceAll('\r\n', '\n');
  const lines = joined.matchAll(/^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=("[^"]*"(?=[ \t]*$)|'[^']*'(?=[ \t]*$)|.*$)/gm);
  const variables = new Map([...lines].map(([, name = '', value = '']) => [name, value.replaceAll('\n', ' ')]));
  return { words: wordsOf(cleaned(variables.get('DAEMON_ARGS')) ?? ''), variables };
}

/** Words of a line; quotation marks protect spaces, and are removed. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) => word.replaceAll(/["']/g, ''));
}

/** The command line of a systemd unit, if it has one. Later settings of a name add to earlier ones; an empty one resets them. */
function unitOf(text: string): CommandLine | undefined {
  const variables = new Map<string, string>();
  const environmentFiles: string[] = [];
  let line = '';
  for (const [key, value] of settingsOf(text)) {
    if (key === 'ExecStart') line = value;
    if (key === 'EnvironmentFile' && value !== '') environmentFiles.push(value.replace(/^-/, ''));
    if (key !== 'Environment') continue;
    if (value === '') variables.clear();
    for (const assignment of wordsOf(value)) {
      const [name = ''] = assignment.split('=', 1);
      variables.set(name, percent(cleaned(assignment.slice(name.length + 1)) ?? ''));
    }
  }
  if (line === '') return undefined;
  const words = wordsOf(line.replace(/^[@:+!|-]+/, '')).flatMap((word) => {
    // A variable that is a whole word is split.
    const [, whole] = /^\$(\w+)$/.exec(word) ?? [];
    if (whole !== undefined) return variables.has(whole) ? wordsOf(variables.get(whole) ?? '') : [word];
    return [percent(word.replaceAll(/\$\{(\w+)\}/g, (reference, name: string) => variables.get(name) ?? reference))];
  });
  return { words, variables, environmentFiles };
}

/** `%%` is a percent sign; other specifiers, such as `%H`, are known only at run time. */
function percent(word: string): string {
  return word.replaceAll(/%(%|[A-Za-z])/g, (_, letter: string) => (letter === '%' ? '%' : `\${%${letter}}`));
}

/** The settings of the section [Service], in their order. A backslash continues a line, and comments between are skipped. */
function settingsOf(text: string): [key: string, value: string][] {
  const lines: string[] = [];
  let isContinued = false;
  for (const line of text.split(/\r?\n/).map((raw) => raw.trim())) {
    if (/^[#;]/.test(line)) continue;
    const part = line.replace(/\\$/, '').trim();
    if (isContinued) lines.push(`${lines.pop() ?? ''} ${part}`);
    else lines.push(part);
    isContinued = line.endsWith('\\');
  }
  let section = '';
  const settings: [string, string][] = [];
  for (const line of lines) {
    const [, heading] = /^\[(\w+)\]$/.exec(line) ?? [];
    const [, key, value] = /^(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (heading !== undefined) section = heading;
    else if (section === 'Service' && key !== undefined) settings.push([key, value ?? '']);
  }
  return settings;
}

/** A member's own configuration; names are those of etcd's flags, undefined = not set there. */
export interface MemberConfig {
  readonly name: string | undefined;
  readonly initialCluster: string | undefined;
  readonly initialAdvertisePeerUrls: string | undefined;
  readonly dataDir: string | undefined;
  readonly walDir: string | undefined;
}

/** `environment`: variables, with all flags in `DAEMON_ARGS`, or one for each; `yaml`: a pod, or etcd's own `--config-file`. */
type ConfigForm = 'environment' | 'unit' | 'yaml';

const BY_HAND = 'Give --name and --data-dir with the values that etcd uses.';

/**
 * Reads the file that starts a member: an environment file such as `/etc/default/etcd`, a systemd unit, the manifest of a
 * static pod such as `/etc/kubernetes/manifests/etcd.yaml`, or the YAML file of etcd's `--config-file`.
 * @throws UsageError when it cannot be read, names no member, or has values that are known only at run time
 */
export async function readMemberConfig(path: string): Promise<MemberConfig> {
  const hint = 'Check the path of --from and its permissions; in a container, mount the file.';
  const text = (await readNamed(path, 'configuration file', hint)).toString('utf8');
  const shown = printable(path);
  const config = parseMemberConfig(text, formOf(path, text), shown);
  if (config?.name === undefined) {
    throw new UsageError(
      `${shown} does not configure an etcd member: it has no name.`,
      `Give the file that starts etcd: /etc/default/etcd, /etc/kubernetes/manifests/etcd.yaml, its unit or configuration; or give --name and --data-dir.`,
    );
  }
  const directory = (named: string | undefined): string | undefined => {
    if (named === undefined || named.startsWith('/')) return named && assertDirectory(named, `directory in ${shown}`);
    throw new UsageError(`${shown} has the relative directory ${printable(named)}.`, BY_HAND);
  };
  return { ...config, dataDir: directory(config.dataDir), walDir: directory(config.walDir) };
}

/** The data directory of a member: of its own configuration, with which --data-dir must agree. @throws UsageError */
export function dataDirOf(config: MemberConfig | undefined, path: string, given?: string): string | undefined {
  const own = config?.dataDir;
  if (own === undefined || given === undefined || own === given) return own ?? given;
  throw new UsageError(
    `--data-dir is ${given}, but ${printable(path)} has the data directory ${own}.`,
    'Omit --data-dir: each member has the data directory in its own configuration.',
  );
}

function formOf(path: string, text: string): ConfigForm {
  if (/\.(ya?ml|json)$/.test(path)) return 'yaml';
  if (/^\s*\[Service\]\s*$/m.test(text)) return 'unit';
  return /^\s*(?:export\s+)?[A-Za-z_]\w*=/m.test(text) ? 'environment' : 'yaml';
}

/** Undefined when the text does not configure etcd. @param shown the file's name for messages @throws UsageError */
export function parseMemberConfig(text: string, form: ConfigForm, shown = 'The file'): MemberConfig | undefined {
  const line = { environment: environmentOf, unit: unitOf, yaml: yamlOf }[form](text);
  if (line === undefined) return undefined;
  assertKnownForm(line, shown);
  const { environmentFiles = [], mounts = new Map<string, string>() } = line;
  const flags = flagsOf(line.words);
  const raw = (flag: string): string | undefined =>
    flags.get(flag) ?? cleaned(line.variables.get(`ETCD_${flag.toUpperCase().replaceAll('-', '_')}`));
  const settings = raw('config-file');
  if (settings !== undefined) {
    throw new UsageError(
      `${shown} starts etcd with --config-file, with which etcd ignores all other settings.`,
      `Give --from ${printable(settings)}.`,
    );
  }
  if (raw('name') === undefined && environmentFiles[0] !== undefined) {
    throw new UsageError(
      `${shown} reads etcd's settings from ${environmentFiles.map(printable).join(' and ')}.`,
      `Give --from ${printable(environmentFiles[0])}.`,
    );
  }
  const value = (flag: string): string | undefined => {
    const found = raw(flag);
    if (found === undefined || line.isLiteral === true || !/\$[({A-Za-z_]/.test(found)) return found;
    if (flag !== 'name' && !flag.endsWith('-dir')) return undefined;
    throw new UsageError(
      `${shown} sets --${flag} to ${printable(found.replaceAll(/\$\{(%\w)\}/g, '$1'))}, which is known only at run time.`,
      `Check how the running etcd was started (ps -C etcd -o args). ${BY_HAND}`,
    );
  };
  const hostPath = (flag: string): string | undefined => {
    const path = value(flag);
    return path === undefined ? undefined : onHost(path, mounts);
  };
  return {
    name: value('name'),
    initialCluster: value('initial-cluster'),
    initialAdvertisePeerUrls: value('initial-advertise-peer-urls'),
    dataDir: hostPath('data-dir'),
    walDir: hostPath('wal-dir'),
  };
}

/** @throws UsageError where a shell creates the command line */
function assertKnownForm({ words }: CommandLine, shown: string): void {
  const [program = '', ...rest] = words;
  if (!/^(ba|da|a|z|k)?sh$/.test(basename(program)) || !rest.some((word) => /^-\w*c$/.test(word))) return;
  throw new UsageError(
    `${shown} starts etcd through a shell (${basename(program)} -c), which is not supported.`,
    BY_HAND,
  );
}

function yamlOf(text: string): CommandLine | undefined {
  const document = parseDocument(text);
  return configFileOf(document) ?? podOf(document);
}

function podOf(document: unknown): CommandLine | undefined {
  const spec = at(document, 'spec');
  for (const container of list(at(spec, 'containers'))) {
    const words = wordsOfContainer(container);
    const isEtcd = at(container, 'name') === 'etcd' || words.some((word) => /(^|[\s/])etcd(\s|$)/.test(word));
    if (!isEtcd) continue;
    const variables = new Map<string, string>();
    for (const entry of list(at(container, 'env'))) {
      const value = at(entry, 'value');
      if (typeof value === 'string') variables.set(String(at(entry, 'name')), expand(value, variables));
    }
    return { words: words.map((word) => expand(word, variables)), variables, mounts: mountsOf(spec, container) };
  }
  return undefined;
}

/** As Kubernetes does it; what is known only at run time stays as it is. */
function expand(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$\(([\w.-]+)\)/g, (reference, name: string) => variables.get(name) ?? reference);
}

/** etcd's own configuration file, whose keys are the names of its flags. */
function configFileOf(document: unknown): CommandLine | undefined {
  if (at(document, 'kind') !== undefined || at(document, 'name') === undefined) return undefined;
  if (['data-dir', 'initial-cluster', 'listen-client-urls'].every((key) => at(document, key) === undefined)) {
    return undefined;
  }
  const scalars = Object.entries(document ?? {}).filter(([, value]) => /^(string|number|boolean)$/.test(typeof value));
  return { words: scalars.map(([key, value]) => `--${key}=${value}`), variables: new Map(), isLiteral: true };
}

/** Flags with their values, after an equals sign or in the next word; etcd accepts one or two hyphens. */
function flagsOf(words: readonly string[]): Map<string, string> {
  const flags = new Map<string, string>();
  for (const [i, word] of words.entries()) {
    const [, name, value] = /^--?([\w-]+)(?:=([^]*))?$/.exec(word) ?? [];
    if (name === undefined) continue;
    const next = words[i + 1];
    const found = value ?? (next === undefined || next.startsWith('-') ? undefined : next);
    if (found !== undefined && found !== '') flags.set(name, found);
  }
  return flags;
}
