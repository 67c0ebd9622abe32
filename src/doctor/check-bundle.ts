import { ExitCode, WorkerError } from '../errors.ts';
import { counted, printable } from '../text.ts';
import { type Check, ok, tried, warn } from './check.ts';

const WHAT = 'bundle';

/** Whether the next backup can store its bundle. @param items layouts and paths; undefined = no bundle is configured */
export async function checkBundle(items: readonly string[] | undefined): Promise<Check[]> {
  if (items === undefined) return [];
  return tried(WHAT, async () => {
    const { listedPaths } = await import('../bundle/bundle-paths.ts');
    const { collectFiles, TooLarge } = await import('../bundle/collect-files.ts');
    const { authoritiesWithoutKey } = await import('../bundle/key-fingerprints.ts');
    const collected = await collectFiles(await listedPaths(items)).catch((error: unknown) => {
      throw error instanceof TooLarge ? incomplete(`The bundle cannot be stored: ${error.message}.`) : error;
    });
    const { entries, missing, skipped } = collected;
    const { length: files } = entries.filter(({ type }) => type === 'File');
    if (missing.length > 0) throw incomplete(`The bundle would be incomplete: ${such(missing)}.`);
    if (files === 0) throw incomplete('The bundle cannot be stored: there is no file for it.');
    const has = `The bundle has ${counted(files, 'file')}`;
    const withoutKey = authoritiesWithoutKey(entries).map((path) => ({ path: `/${path}` }));
    const warnings = [
      ...warningAbout(skipped, `${has}. Omitted:`, 'If what it leads to is needed, add that to SNAPSHOT_BUNDLE.'),
      ...warningAbout(
        withoutKey,
        `${has}, but no private key for`,
        'Store this key elsewhere, or add its file to SNAPSHOT_BUNDLE.',
      ),
    ];
    return warnings.length > 0 ? warnings : ok(WHAT, `${has}.`);
  });
}

interface Path {
  readonly path: string;
  readonly why?: string;
}

function warningAbout(paths: readonly Path[], problem: string, hint: string): Check[] {
  return paths.length === 0 ? [] : [warn(WHAT, `${problem} ${such(paths)}.`, hint)];
}

/** The first of them, with the number of the others. */
function such([first, ...others]: readonly Path[]): string {
  const more = others.length > 0 ? `, and ${others.length} more` : '';
  return printable([first?.path, first?.why].join(' ').trim()) + more;
}

function incomplete(message: string): WorkerError {
  return new WorkerError(
    ExitCode.incomplete,
    message,
    'Check SNAPSHOT_BUNDLE, what is mounted into the container, and the permissions of the files.',
  );
}
