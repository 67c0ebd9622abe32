import { isIP } from 'node:net';
import { UnsafeError } from '../errors.ts';
import { formatInitialCluster, type Member, title } from '../member.ts';
import { misshapenPart } from '../restore/initial-members.ts';
import { quoteShell, quoteSystemd } from '../text.ts';
import type { Replacement } from './replacement-options.ts';
import { isReplacement } from './steps.ts';

/** Values by the names of etcd's flags. */
export type Settings = Readonly<Record<string, string>>;

/**
 * The settings of the replacement's etcd.
 * @param members all members of the cluster when it starts, with or without the replacement
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
    `Cannot write the settings: the member ${title({ id, name })} of the cluster is unusable: ${problem}.`,
    'Start its etcd with another --name, or change its peer URL with `etcdctl member update`.',
  );
}

/** etcd listens on addresses only: where the URL has a name, on all addresses of the host. */
function bindable(url: string): string {
  const { hostname } = new URL(url);
  const isAddress = isIP(hostname.replace(/^\[|\]$/g, '')) !== 0 || hostname === 'localhost';
  return isAddress ? url : url.replace(hostname, '0.0.0.0');
}
