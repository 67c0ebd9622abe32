import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { HeldDirectory } from '../directories.ts';
import { UsageError, WorkerError } from '../errors.ts';
import { onDisk } from '../files.ts';
import { openNewDirectory } from '../new-directory.ts';
import { cleaned, isBoundToken } from '../objects/clean.ts';
import { droppedIn } from '../objects/dropped-versions.ts';
import { HeldYaml } from '../objects/held-yaml.ts';
import { type Identity, pathName, typeName } from '../objects/identity.ts';
import { documentOf, filePath, kustomizationOf, orderOf } from '../objects/object-files.ts';
import { withoutSecrets } from '../objects/secret-values.ts';
import { type Selection, selectionOf, whyLeftOut } from '../objects/selection.ts';
import { counted, paragraph, printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import {
  type FoundObject,
  incompleteness,
  type ObjectSource,
  openObjects,
  readObjects,
  type Unreadable,
} from './read-objects.ts';

/** An extracted object. */
interface Extracted {
  readonly identity: Identity;
  readonly path: string;
  /** Only where it is not in a file. */
  readonly document?: string;
}

/** Collects the objects, and what the operator should know of them. */
class Extraction {
  readonly extracted: Extracted[] = [];
  readonly leftOut = new Map<string, number>();
  readonly warnings: string[] = [];
  readonly dropped = new Map<string, string>();
  readonly #held = new HeldYaml(
    'The objects',
    'sorted in memory for stdout',
    'Extract them into a directory with -o DIR',
  );

  /** What goes to stdout is sorted first, in memory. @throws UsageError */
  hold(extracted: Required<Extracted>): void {
    this.#held.add(extracted.document);
    this.extracted.push(extracted);
  }

  leaveOut({ kind, group }: Identity, why: string): void {
    const what = `${typeName({ kind, group })} (${why})`;
    this.leftOut.set(what, (this.leftOut.get(what) ?? 0) + 1);
  }

  /** What is not in the output. */
  notes(): string[] {
    const versions = [...this.dropped].map(([type, version]) => `${type} (since ${version})`);
    const leftOut = [...this.leftOut].map(([what, count]) => `${count} ${what}`);
    return [
      'The data of volumes are not in etcd, and so not here.',
      ...(versions.length === 0
        ? []
        : [`Newer clusters do not serve ${versions.join(', ')}: convert these objects before you apply them there.`]),
      ...(leftOut.length === 0 ? [] : [`Left out: ${leftOut.join(', ')}.`]),
    ];
  }
}

/** Writes objects of a snapshot as YAML that kubectl can apply. Nothing is applied. */
export async function extract(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const [operand] = operands;
  const { output } = options;
  if (typeof output !== 'string') {
    throw new UsageError(
      'No output is given.',
      'Give a new or empty directory with -o DIR, or write to stdout with -o -',
    );
  }
  const selection = selectionOf(options);
  const source = await openObjects(context, operand, options);
  const dir = output === '-' ? undefined : await onDisk(`Creating ${printable(output)}`, openNewDirectory(output));
  const extraction = new Extraction();
  const { unreadable, head } = await fill(context, source, selection, extraction, { output, dir, options }).catch(
    (error: unknown) => {
      if (dir !== undefined && error instanceof WorkerError)
        error.hint = `Remove ${printable(output)}, which is incomplete. ${error.hint}`;
      throw error;
    },
  );
  const { extracted, warnings } = extraction;
  if (extracted.length === 0 && extraction.leftOut.size === 0) {
    context.log.warn('no object of the snapshot is selected', {
      hint: 'Check the names: `etcd-snapshot inspect NAME --objects` shows all objects.',
    });
  }
  for (const warning of warnings) context.log.warn(warning);
  const summary = `${counted(extracted.length, 'object')} extracted${dir === undefined ? '' : ` to ${output}`}.`;
  const partialFailure = incompleteness(context, unreadable);
  return {
    text:
      dir === undefined
        ? streamOf(extracted, head)
        : [paragraph(printable(summary)), ...extraction.notes().map(paragraph)].join('\n'),
    json: {
      ...{ directory: dir === undefined ? null : output, unreadable, warnings, notes: extraction.notes() },
      objects: extracted.map(({ identity, path }) =>
        Object.assign({}, identity, dir === undefined ? {} : { file: path }),
      ),
    },
    summary,
    ...(partialFailure !== undefined && { partialFailure }),
  };
}

/** Writes the selected objects, or holds those for stdout. @returns what could not be read, and the head of the output */
async function fill(
  context: Context,
  source: ObjectSource,
  selection: Selection,
  extraction: Extraction,
  to: {
    readonly output: string;
    readonly dir: HeldDirectory | undefined;
    readonly options: Arguments['options'];
  },
): Promise<{ readonly unreadable: readonly Unreadable[]; readonly head: string }> {
  const { output, dir, options } = to;
  const doing = `Writing to ${printable(output)}`;
  const showsSecrets = dir !== undefined || options['show-secrets'] === true || !context.isTerminal;
  const asStored = options['as-stored'] === true;
  const unreadable = await onDisk(
    doing,
    readObjects(context, source, selection, (found) => {
      context.signal.throwIfAborted();
      // Only objects of the types that are asked for are found.
      const why = whyNot(found, selection.kinds.length > 0, asStored);
      if (why === undefined) take(extraction, found, { dir, asStored, showsSecrets });
      else extraction.leaveOut(found.identity, why);
    }),
  );
  const head = extraction
    .notes()
    .map((note) => `# ${printable(note)}\n`)
    .join('');
  if (dir !== undefined) {
    const files = extraction.extracted.map(({ path, identity }) => ({ path, kind: identity.kind }));
    await onDisk(doing, () => write(dir, 'kustomization.yaml', kustomizationOf(files, head)));
  }
  return { unreadable, head };
}

/** Why an object is not extracted; undefined where it is. */
function whyNot({ identity, object }: FoundObject, isAsked: boolean, asStored: boolean): string | undefined {
  if (isBoundToken(object) && !asStored) return 'token of a service account';
  return isAsked ? undefined : whyLeftOut(identity, object);
}

function take(
  extraction: Extraction,
  { identity, object: stored }: FoundObject,
  how: { readonly dir: HeldDirectory | undefined; readonly asStored: boolean; readonly showsSecrets: boolean },
): void {
  const { object, comments, warnings } = how.asStored
    ? { object: stored, comments: [], warnings: [] }
    : cleaned(stored);
  const path = filePath(identity);
  const document = documentOf(how.showsSecrets ? object : withoutSecrets(object), comments);
  if (how.dir === undefined) extraction.hold({ identity, path, document });
  else {
    write(how.dir, path, document);
    extraction.extracted.push({ identity, path });
  }
  extraction.warnings.push(...warnings.map((warning) => `${printable(pathName(identity))} ${printable(warning)}`));
  const version = droppedIn(identity);
  if (version !== undefined) extraction.dropped.set(`${identity.kind} of ${identity.apiVersion}`, version);
}

function write(dir: HeldDirectory, path: string, content: string): void {
  mkdirSync(dirname(dir.at(path)), { recursive: true, mode: 0o700 });
  writeFileSync(dir.at(path), content, { flag: 'wx', mode: 0o600 });
}

/** All documents in the order in which they can be created. */
function streamOf(extracted: readonly Extracted[], head: string): Buffer {
  const sorted = extracted.toSorted((a, b) => orderOf(a.identity) - orderOf(b.identity) || (a.path < b.path ? -1 : 1));
  return Buffer.from(head + sorted.map(({ document = '' }) => `---\n${document}`).join(''));
}
