import type { ArchiveEntry } from '../bundle/archive.ts';
import { UsageError } from '../errors.ts';
import { isFileName } from '../snapshot/operand-name.ts';
import { alignColumns, counted, humanSize, paint, paragraph, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { loadIdentities, openNamedOrNewest } from './snapshot-operand.ts';

/** Lists the keys and configurations that were stored with a snapshot, or writes them into a directory. */
export async function bundle(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const [snapshot] = operands;
  const { extract: dir } = options;
  if (snapshot !== undefined && isFileName(snapshot)) {
    throw new UsageError(
      '`bundle` reads bundles in the container, not files.',
      `Open the file with: age -d -i KEY ${printable(snapshot)} | zstd -d | tar -tv`,
    );
  }
  if (dir === '') throw new UsageError('--extract is empty.', 'Give a new or empty directory.');
  const store = await openStore(context);
  const source = await openNamedOrNewest(context, snapshot, options, store);
  const { openBundle } = await import('../bundle/read-bundle.ts');
  const { authoritiesWithoutKey } = await import('../bundle/key-fingerprints.ts');
  const opened = await openBundle(store, source, await loadIdentities(context, options));
  const { name, size, sha256, entries } = opened;
  const withoutKey = authoritiesWithoutKey(entries);
  if (typeof dir === 'string') {
    const { extractBundle } = await import('../bundle/extract-bundle.ts');
    await extractBundle(entries, dir, context.signal);
  }
  const count = counted(entries.filter(({ type }) => type === 'File').length, 'file');
  const summary =
    typeof dir === 'string' ? `Extracted ${count} of ${name} to ${dir}.` : `${name}: ${count}, ${humanSize(size)}`;
  return {
    text: [
      alignColumns(['MODE', 'SIZE', 'PATH'], entries.map(rowOf), ['SIZE']),
      ...(withoutKey.length === 0 ? [] : [paint('red', paragraph(warningAbout(withoutKey)))]),
      '',
      paragraph(printable(summary)),
    ].join('\n'),
    summary,
    json: {
      ...{ name, snapshot: source.name, size, sha256, keys: source.record?.bundleKeys ?? null },
      files: entries.map(jsonOf),
      authoritiesWithoutKey: withoutKey,
      extractedTo: dir ?? null,
    },
  };
}

function warningAbout(paths: readonly string[]): string {
  return printable(
    `THIS BUNDLE HAS NO PRIVATE KEY for ${paths.join(', ')}: nobody can issue certificates of these authorities with it.`,
  );
}

function rowOf({ path, type, mode, content, target }: ArchiveEntry): string[] {
  const shown = type === 'Directory' ? `${path}/` : target === undefined ? path : `${path} -> ${target}`;
  return [modeText(mode), type === 'File' ? String(content.length) : '-', shown];
}

function jsonOf({ path, type, mode, mtime, content, target }: ArchiveEntry): object {
  return {
    path,
    type: { File: 'file', Directory: 'directory', SymbolicLink: 'link' }[type],
    mode: modeText(mode),
    mtime: mtime.toISOString(),
    ...(type === 'File' && { size: content.length }),
    ...(target !== undefined && { target }),
  };
}

function modeText(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
