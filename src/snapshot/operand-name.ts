import { existsSync } from 'node:fs';
import { UsageError } from '../errors.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';
import { sealedNames } from './snapshot-name.ts';

/** Whether an operand is a file of this machine: it begins with `./`, `../` or `/`. All other names are in the container. */
export function isFileName(operand: string): boolean {
  return /^\.{0,2}\//.test(operand);
}

/** @throws UsageError for a file of this machine, where only a stored snapshot can be used */
export function assertStored(operand: string): void {
  if (!isFileName(operand)) return;
  throw new UsageError(`${printable(operand)} is a file.`, 'Give a snapshot that `etcd-snapshot list` shows.');
}

/** A hint where a name in the container was given, and there is a file of that name. */
export function hintAboutFile(name: string): string | undefined {
  if (isFileName(name) || !existsSync(name)) return undefined;
  return `To use the file ${printable(name)} in this directory, give ./${printable(name)}`;
}

/** What a name can mean that no blob has; the name of a sealed snapshot has more endings, which are easily forgotten. @throws StorageError */
export async function hintAboutMissing(store: BlobStore, name: string): Promise<string> {
  for (const sealed of sealedNames(name)) {
    if ((await store.find(sealed)) !== undefined) return `There is ${printable(sealed)}`;
  }
  return hintAboutFile(name) ?? 'To use a file, give a path that begins with ./, ../ or /';
}
