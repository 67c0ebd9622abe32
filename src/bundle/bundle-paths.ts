import { resolve } from 'node:path';
import { readNamed } from '../files.ts';
import { isLayout, type Layout, LAYOUTS } from '../installer-layouts.ts';
import { at, list, mountsOf, onHost, parseDocument, wordsOfContainer } from '../restore/pod-manifest.ts';
import type { ListedPath } from './collect-files.ts';

const FLAG = /^--?encryption-provider-config[= ](\/.+)$/;

/** The files and directories that SNAPSHOT_BUNDLE means: names of layouts, and absolute paths. */
export async function listedPaths(items: readonly string[]): Promise<ListedPath[]> {
  const lists = await Promise.all(items.map(async (item) => (isLayout(item) ? pathsOf(item) : [required(item)])));
  const unique = new Map(lists.flat().map((listed) => [listed.path, listed]));
  // A directory comes before what is in it.
  return [...unique.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

async function pathsOf(layout: Layout): Promise<ListedPath[]> {
  const { keys, apiServer } = LAYOUTS[layout];
  const config = apiServer === undefined ? undefined : await encryptionConfigOf(apiServer);
  return [
    ...keys.optional.map((path) => ({ path, isOptional: true })),
    ...keys.required.map(required),
    ...(config === undefined ? [] : [required(config)]),
  ];
}

function required(path: string): ListedPath {
  return { path: resolve(path), isOptional: false };
}

async function encryptionConfigOf(manifest: string): Promise<string | undefined> {
  // A manifest that cannot be read is reported when it is read for the bundle.
  const text = await readNamed(manifest, 'manifest', '').catch(() => undefined);
  return text === undefined ? undefined : encryptionConfigIn(text.toString());
}

/**
 * The encryption configuration that the manifest of an API server names, as a path of the host; undefined = none.
 * @param text any text
 */
export function encryptionConfigIn(text: string): string | undefined {
  const spec = at(parseDocument(text), 'spec');
  for (const container of list(at(spec, 'containers'))) {
    const words = wordsOfContainer(container);
    const flags = words.flatMap((word, index) => [word, `${word} ${words[index + 1] ?? ''}`]);
    const path = flags.map((flag) => FLAG.exec(flag)?.[1]).find((found) => found !== undefined);
    if (path !== undefined) return onHost(path, mountsOf(spec, container));
  }
  return undefined;
}
