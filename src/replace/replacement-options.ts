import { UsageError } from '../errors.ts';
import { printable } from '../text.ts';
import { isUnspecified, parseOrigin } from '../url.ts';

/** What the command line requests. */
export interface Replacement {
  /** Id or name of the failed member. */
  readonly failed: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  /** Empty = as in the new member's own configuration. */
  readonly clientURLs: readonly string[];
  readonly dataDir: string;
  /** Add a voting member at once, not a learner that is promoted later. */
  readonly asVoter: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIRECTORY = /^\/[\w.+/-]+$/;

/**
 * Reads the options. Their values need no quoting in a shell, an env file or YAML.
 * @param parent of the data directory if none is given
 * @throws UsageError
 */
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
      'For example: etcd-snapshot replace-member m3 --name m3-replace-0 --peer-urls https://10.0.0.8:2380',
    );
  }
  if (!NAME.test(name)) {
    throw new UsageError(`Invalid member name --name ${printable(name)}.`, 'Use letters, digits and ._- only.');
  }
  // An empty name, such as an unset shell variable, is that of every member that never started.
  if (failed === '') {
    throw new UsageError('The name of the failed member is empty.', 'Give its name or id: see `etcd-snapshot health`.');
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
      'For example: /var/lib/etcd/m3-replace-0',
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
      const parsed = parseOrigin(value.trim(), ['http:', 'https:'], defaultPort);
      const isNowhere = 'origin' in parsed && isUnspecified(new URL(parsed.origin).hostname);
      if ('origin' in parsed && !isNowhere) return parsed.origin;
      const problem = 'problem' in parsed ? parsed.problem : 'must be an address at which other members reach it';
      throw new UsageError(`--${name} ${problem}.`, `For example: https://10.0.0.8:${defaultPort}`);
    });
}
