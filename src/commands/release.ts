import { markSnapshot } from '../retention/mark-snapshot.ts';
import { paragraph, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { findMarkable, formsOf } from './marked-snapshot.ts';

/** Ends what `keep` began: the rules of retention decide again. */
export async function release(context: Context, { operands: [operand = ''], options }: Arguments): Promise<Outcome> {
  const { log } = context;
  const store = await openStore(context);
  const { name } = await findMarkable(store, operand);
  const wasKept = (await store.readMarks())(name) !== undefined;
  if (wasKept) {
    await markSnapshot(store, name, undefined);
    log.info('released snapshot', { name });
  }
  const freed = options['legal-hold'] === true ? formsOf(store.prefix, name, await store.list()) : [];
  for (const blob of freed) {
    await store.setLegalHold(blob, false);
    log.info('removed legal hold', { name: blob });
  }
  const summary = `${printable(name)} ${wasKept ? 'is released' : 'was not kept'}${freed.length === 0 ? '' : ', and has no legal hold any more'}.`;
  return {
    text: wasKept ? paragraph(`${summary} The rules of retention decide about it again.`) : summary,
    summary,
    json: { name, released: wasKept, legalHold: freed },
  };
}
