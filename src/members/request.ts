import { UsageError } from '../errors.ts';
import { parseOrigin } from '../reader.ts';

/** A replacement as the command line asks for it. */
export interface Replacement {
  /** Id or name of the failed member. */
  readonly failed: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  /** None where they are to stay as the new member's configuration has them. */
  readonly clientURLs: readonly string[];
  readonly dataDir: string;
  /** Added as a voting member at once, instead of as a learner that is promoted later. */
  readonly asVoter: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIRECTORY = /^\/[\w.+/-]+$/;

/**
 * What these options ask for. Values are such that they can stand in a shell's line, an env file and YAML as they are.
 * @param parent of the data directory, where none is given
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
    throw new UsageError(`--name ${name} is no name for a member.`, 'Use letters, digits and ._- only.');
  }
  // An empty name, as of a shell's variable that is not set, would be that of every member that never started.
  if (failed === '') {
    throw new UsageError('The name of the failed member is empty.', 'Name it, or its id: see `etcd-snapshot health`.');
  }
  if (name === failed) {
    throw new UsageError(
      'The failed member and its replacement have the same name, so nobody can tell them apart.',
      'Choose another --name, such as m3-replace-0, or name the failed member by its id.',
    );
  }
  const dataDir = text(options, 'data-dir') ?? `${parent}/${name}`;
  if (!DIRECTORY.test(dataDir)) {
    throw new UsageError(
      `--data-dir ${dataDir} is no directory's full path.`,
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
      if ('origin' in parsed) return parsed.origin;
      throw new UsageError(`--${name} ${parsed.problem}.`, `For example: https://10.0.0.8:${defaultPort}`);
    });
}
