import t from 'tap';
import { copyFields, readCopies } from '../../src/snapshot/copies.ts';
import type { MarkBlob } from '../../src/snapshot/marks.ts';
import { blob, HOUR } from '../support/fleet.ts';

t.test('when the original of a copy was stored', (t) => {
  const copy = blob(HOUR, { prefix: 'p/' });
  const told = { snapshot: copy.name.slice(2), etag: copy.etag, bundleEtag: undefined };
  const at = (ms: number): Date => new Date(copy.storedAt.getTime() + ms);
  const event = (originalStoredAt: Date, more: Partial<MarkBlob> = {}): MarkBlob => {
    const base = { kind: 'copy', name: 'p/etcd-snapshot-copies/x.json', etag: 'e', storedAt: copy.storedAt } as const;
    return { ...base, fields: copyFields({ ...told, originalStoredAt }), signature: undefined, ...more };
  };
  const found = (areSigned: boolean, ...events: MarkBlob[]): Date | undefined =>
    readCopies(events, 'p/', areSigned)(copy);
  const unsigned = { signature: { state: 'unsigned', keyId: null } } as const;
  const signed = { signature: { state: 'valid', keyId: 'k' } } as const;
  const bad = { signature: { state: 'bad', keyId: 'k' } } as const;
  t.same(found(false, event(at(-9)), event(at(-5)), event(at(-7))), at(-5), 'the latest');
  t.same(found(false, event(at(9))), at(0), 'no copy is older than its original');
  t.same(found(false, event(at(-9), unsigned)), at(-9), 'who copies need not have a key');
  t.equal(found(true, event(at(-9), unsigned)), undefined, 'but where backups are stored it must be signed');
  t.same(found(true, event(at(-9), signed)), at(-9));
  t.equal(found(false, event(at(-9), bad)), undefined);
  t.equal(found(false, event(at(-9), { fields: { ...event(at(0)).fields, etag: 'other' } })), undefined);
  t.end();
});
