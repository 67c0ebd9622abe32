import { markSnapshot } from '../retention/mark-snapshot.ts';
import { keptJson, keptText } from '../snapshot/marks.ts';
import { printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { readKeepRequest } from './keep-options.ts';
import { assertStillThere, findMarkable, formsOf } from './marked-snapshot.ts';
import { newestName } from './snapshot-operand.ts';

/** Keeps a snapshot whatever the rules of retention say. Nothing that is stored is changed. */
export async function keep(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const { log } = context;
  const request = readKeepRequest('--until', options['until'], options['note']);
  const store = await openStore(context);
  const { name } = await findMarkable(store, operand ?? (await newestName(context, store, options)));
  const kept = await markSnapshot(store, name, request);
  log.info('marked snapshot as kept', { name, ...(kept && keptJson(kept)) });
  const blobs = await store.list();
  assertStillThere(name, blobs);
  const held = options['legal-hold'] === true ? formsOf(store.prefix, name, blobs) : [];
  for (const blob of held) {
    await store.setLegalHold(blob, true);
    log.info('set legal hold', { name: blob });
  }
  const withHold = held.length === 0 ? '' : ', and has a legal hold';
  const summary = `${printable(name)} is ${kept === undefined ? '' : printable(keptText(kept))}${withHold}.`;
  return { text: summary, summary, json: { name, kept: kept ? keptJson(kept) : null, legalHold: held } };
}
