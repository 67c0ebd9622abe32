import { isIP } from 'node:net';
import { UnsafeError, UsageError } from '../errors.ts';
import { formatInitialCluster, type Member, title } from '../member.ts';
import { misshapenPart } from '../restore/initial-members.ts';
import { printable, quoteShell, quoteSystemd } from '../text.ts';
import { isUnspecified, ORIGIN_RULE, parseOrigin } from '../url.ts';

/** What the command line requests. */
export interface Replacement {
  /** Id or name of the failed member. */
  readonly failed: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  /** Empty = as in the new member's own configuration. */
  readonly clientURLs: readonly string[];
  readonly dataDir: string;
  /** Add it as a voting member, not as a learner that is promoted later. */
  readonly asVoter: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIRECTORY = /^\/[\w.+/-]+$/;

/** Reads the options, whose values then need no quoting in a shell, an env file or YAML. @param parent of the default data directory */
export function readReplacement(
  failed: string,
  options: Readonly<Record<string, unknown>>,
  parent = '/var/lib/etcd',
): Replacement {
  const name = text(options, 'name');
  const peerURLs = urls(options, 'peer-urls', '2380');
  if (name === undefined || peerURLs === undefined) {
    const missing = name === undefined ? '--name' : '--peer-urls';
    throw new UsageError(
      `replace-member needs ${missing}.`,
      'Run, for example: etcd-snapshot replace-member m3 --name m3-replace-0 --peer-urls https://10.0.0.8:2380',
    );
  }
  if (!NAME.test(name)) {
    throw new UsageError(`Invalid --name ${printable(name)}.`, 'Use letters, digits and ._- only.');
  }
  // An empty name, such as an unset shell variable, would match every member that never started.
  if (failed === '') {
    throw new UsageError(
      'The name of the failed member is empty.',
      'Give its name or id, which `etcd-snapshot health` shows.',
    );
  }
  if (name === failed) {
    throw new UsageError(
      'The failed member and its replacement have the same name.',
      'Choose another --name, such as m3-replace-0, or give the id of the failed member.',
    );
  }
  const dataDir = text(options, 'data-dir') ?? `${parent}/${name}`;
  if (!DIRECTORY.test(dataDir)) {
    throw new UsageError(
      `--data-dir ${printable(dataDir)} is not an absolute path of letters, digits and ._+-.`,
      'Use a path such as /var/lib/etcd/m3-replace-0',
    );
  }
  const clientURLs = urls(options, 'client-urls', '2379') ?? [];
  return { failed, name, peerURLs, clientURLs, dataDir, asVoter: options['voter'] === true };
}

function text(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

function urls(options: Readonly<Record<string, unknown>>, name: string, defaultPort: string): string[] | undefined {
  return text(options, name)
    ?.split(',')
    .map((value) => {
      const origin = parseOrigin(value.trim(), defaultPort);
      if (origin !== undefined && !isUnspecified(new URL(origin).hostname)) return origin;
      const problem = origin === undefined ? ORIGIN_RULE : 'must be an address at which other members reach it';
      throw new UsageError(`--${name} ${problem}.`, `Use a URL such as https://10.0.0.8:${defaultPort}`);
    });
}

/** Whether a member of the cluster is the replacement, by its peer URL: before it starts it has no name. */
export function isReplacement({ peerURLs }: Pick<Member, 'peerURLs'>, replacement: Replacement): boolean {
  return peerURLs.some((url) => replacement.peerURLs.includes(normalUrl(url)));
}

function normalUrl(url: string): string {
  return parseOrigin(url, '2380') ?? url;
}

/** Values by the names of etcd's flags. */
export type Settings = Readonly<Record<string, string>>;

/**
 * The settings of the replacement's etcd. @param members of the cluster when it starts, with or without the replacement
 * @throws UnsafeError when one of them has a name or URL that must not become part of a command
 */
export function settingsOf(replacement: Replacement, members: readonly Member[]): Settings {
  const { name, peerURLs, clientURLs, dataDir } = replacement;
  const others = members.filter((member) => !isReplacement(member, replacement));
  for (const member of others) assertUsable(member);
  const named = others.map((member) => ({ name: member.name || member.id, peerURLs: member.peerURLs }));
  return {
    name,
    'data-dir': dataDir,
    'initial-advertise-peer-urls': peerURLs.join(),
    'listen-peer-urls': peerURLs.map(bindable).join(),
    'initial-cluster': formatInitialCluster([...named, { name, peerURLs }]),
    'initial-cluster-state': 'existing',
    ...(clientURLs.length === 0
      ? {}
      : { 'advertise-client-urls': clientURLs.join(), 'listen-client-urls': clientURLs.map(bindable).join() }),
  };
}

/** The settings in the formats of all installers. */
export function settingsInWords(settings: Settings): string {
  const flags = Object.entries(settings);
  const variables = flags.map(([flag, value]) => [`ETCD_${flag.toUpperCase().replaceAll('-', '_')}`, value]);
  const directory = settings['data-dir'] ?? '';
  return [
    'On the new host, create an empty data directory that belongs to the user of etcd:',
    `  install -d -m 700 -o etcd -g etcd ${quoteShell(directory)}`,
    '',
    'AKS Engine: in DAEMON_ARGS of /etc/default/etcd, instead of the flags of the same names:',
    `  ${flags.map(([flag, value]) => `--${flag} ${quoteShell(value)}`).join(' ')}`,
    '',
    'Debian package: in /etc/default/etcd:',
    ...variables.map(([variable, value]) => `  ${variable}="${value}"`),
    '',
    'systemd unit without these flags: in /etc/systemd/system/etcd.service.d/replacement.conf:',
    '  [Service]',
    ...variables.map(([variable, value]) => `  Environment=${quoteSystemd(`${variable}=${value}`)}`),
    '',
    'kubeadm: in the command of /etc/kubernetes/manifests/etcd.yaml (the pod must mount the directory):',
    ...flags.map(([flag, value]) => `    - --${flag}=${value}`),
  ].join('\n');
}

/** A member that never started has no name: its id is used instead. */
function assertUsable({ id, name, peerURLs }: Member): void {
  const problem = misshapenPart({ name: name || id, peerURLs });
  if (problem === undefined) return;
  throw new UnsafeError(
    `The settings cannot contain member ${title({ id, name })} of the cluster: ${problem}.`,
    'Start its etcd with another --name, or change its peer URL with `etcdctl member update`.',
  );
}

/** etcd listens on addresses only: where the URL has a name, on all addresses of the host. */
function bindable(url: string): string {
  const { hostname } = new URL(url);
  const isAddress = isIP(hostname.replace(/^\[|\]$/g, '')) !== 0 || hostname === 'localhost';
  return isAddress ? url : url.replace(hostname, '0.0.0.0');
}
