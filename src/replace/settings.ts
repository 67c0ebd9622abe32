import { isIP } from 'node:net';
import { UnsafeError } from '../errors.ts';
import { title } from '../member.ts';
import { misshapenPart } from '../restore/initial-members.ts';
import type { Member } from '../snapshot/verify/etcd-buckets.ts';
import { quoteShell, quoteSystemd } from '../text.ts';
import type { Replacement } from './replacement.ts';
import { isReplacement } from './steps.ts';

/** Values by the names of etcd's flags. */
export type Settings = Readonly<Record<string, string>>;

/**
 * What the etcd of a replacement must be told.
 * @param members all that belong to the cluster when it starts, itself included or not
 * @throws UnsafeError when one of them has a name or URL that must not become part of a command
 */
export function settingsOf(replacement: Replacement, members: readonly Member[]): Settings {
  const { name, peerURLs, clientURLs, dataDir } = replacement;
  const others = members.filter((member) => !isReplacement(member, replacement));
  for (const member of others) assertUsable(member);
  const cluster = [...others, { id: '', name, peerURLs }];
  return {
    name,
    'data-dir': dataDir,
    'initial-advertise-peer-urls': peerURLs.join(),
    'listen-peer-urls': peerURLs.map(bindable).join(),
    'initial-cluster': cluster
      .flatMap((member) => member.peerURLs.map((url) => `${member.name || member.id}=${url}`))
      .join(),
    'initial-cluster-state': 'existing',
    ...(clientURLs.length === 0
      ? {}
      : { 'advertise-client-urls': clientURLs.join(), 'listen-client-urls': clientURLs.map(bindable).join() }),
  };
}

/** The settings in every form in which installers keep them. */
export function settingsInWords(settings: Settings): string {
  const flags = Object.entries(settings);
  const variables = flags.map(([flag, value]) => [`ETCD_${flag.toUpperCase().replaceAll('-', '_')}`, value]);
  const directory = settings['data-dir'] ?? '';
  return [
    'Make its data directory, new and empty, on the new machine, owned by the user that etcd runs as:',
    `  install -d -m 700 -o etcd -g etcd ${quoteShell(directory)}`,
    '',
    'AKS Engine: in DAEMON_ARGS of /etc/default/etcd, in place of the flags of the same names:',
    `  ${flags.map(([flag, value]) => `--${flag} ${quoteShell(value)}`).join(' ')}`,
    '',
    "Debian's package: in /etc/default/etcd:",
    ...variables.map(([variable, value]) => `  ${variable}="${value}"`),
    '',
    'A systemd unit without such flags: in /etc/systemd/system/etcd.service.d/replacement.conf:',
    '  [Service]',
    ...variables.map(([variable, value]) => `  Environment=${quoteSystemd(`${variable}=${value}`)}`),
    '',
    'kubeadm: in the command of /etc/kubernetes/manifests/etcd.yaml (the directory must be one that the pod mounts):',
    ...flags.map(([flag, value]) => `    - --${flag}=${value}`),
  ].join('\n');
}

/** A member that never started is called by its id. */
function assertUsable({ id, name, peerURLs }: Member): void {
  const problem = misshapenPart({ name: name || id, peerURLs });
  if (problem === undefined) return;
  throw new UnsafeError(
    `No settings can be written for a cluster with the member ${title({ id, name })}: ${problem}.`,
    'Start its etcd with another --name, or change its peer URL with `etcdctl member update`.',
  );
}

/** etcd listens at addresses only: where the URL has a name, at all of the machine. */
function bindable(url: string): string {
  const { hostname } = new URL(url);
  const isAddress = isIP(hostname.replace(/^\[|\]$/g, '')) !== 0 || hostname === 'localhost';
  return isAddress ? url : url.replace(hostname, '0.0.0.0');
}
