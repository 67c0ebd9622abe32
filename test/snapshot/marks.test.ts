import t from 'tap';
import type { Kept } from '../../src/snapshot/inventory.ts';
import {
  isNote,
  keptText,
  type Mark,
  type MarkBlob,
  markFields,
  obsoleteMarks,
  nextMoment,
  readMarks,
} from '../../src/snapshot/marks.ts';
import type { RecordSignature } from '../../src/snapshot/signature-state.ts';
import { storedBlob } from '../../src/store/catalogue.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOW = new Date('2026-11-24T13:00:00Z');
const TAKEN_AT = new Date('2026-11-20T06:00:00Z');
const NAME = nameOf(TAKEN_AT);
const RULES = { prefix: 'prod/', time: NOW, areSignaturesRequired: false };
const FOREVER: Kept = { until: undefined, note: undefined };

let count = 0;

/** A mark that was stored so many minutes ago. */
function mark(minutes: number, more: Partial<Mark> = {}, blob: Partial<MarkBlob> = {}): MarkBlob {
  const at = new Date(NOW.getTime() - minutes * MINUTE);
  const fields = markFields({ at, snapshot: NAME, what: 'keep', ...more });
  const name = `prod/etcd-snapshot-marks/${++count}.json`;
  return { kind: 'mark', name, storedAt: at, fields, signature: undefined, ...blob };
}

function kept(...marks: MarkBlob[]): Kept | undefined {
  const [one, other] = [marks, marks.toReversed()].map((each) => readMarks(each, RULES)(`prod/${NAME}`));
  t.strictSame(one, other, 'the order of the list decides nothing');
  return one;
}

t.test('the newest mark counts', (t) => {
  const until = new Date(NOW.getTime() + HOUR);
  t.equal(kept(), undefined);
  t.strictSame(kept(mark(9)), FOREVER);
  t.strictSame(kept(mark(9), mark(8, { until, note: 'before 1.36' })), { until, note: 'before 1.36' });
  t.equal(kept(mark(9), mark(8, { what: 'release' })), undefined);
  t.strictSame(kept(mark(9, { what: 'release' }), mark(8)), FOREVER);
  t.strictSame(kept(mark(8, { what: 'release' }), mark(8)), FOREVER, 'of two at one moment the one that keeps');
  t.end();
});

t.test('an expired mark keeps nothing, and does not bring an earlier one back', (t) => {
  t.equal(kept(mark(9, { until: NOW })), undefined);
  t.equal(kept(mark(9), mark(8, { until: NOW })), undefined);
  t.ok(kept(mark(9, { until: new Date(NOW.getTime() + 1) })));
  const expired = mark(9, { until: new Date(0) });
  t.ok(readMarks([expired], { ...RULES, time: undefined })(`prod/${NAME}`), 'without the time of the service');
  t.end();
});

t.test('a mark is for all forms of its snapshot, and for no other', (t) => {
  const keptOf = readMarks([mark(9)], RULES);
  const stem = NAME.replace(/\.db$/, '');
  for (const name of [NAME, `${NAME}.zst.age`, `${stem}-r2.db.zst.age`]) t.ok(keptOf(`prod/${name}`), name);
  for (const name of [NAME, `prod/x/${NAME}`, `prod/${NAME}.bak`, `prod/${nameOf(NOW)}`, 'prod/notes.txt', '']) {
    t.equal(keptOf(name), undefined, name);
  }
  t.end();
});

t.test('what others store as marks and is none counts for nothing', (t) => {
  const good = mark(60, { note: 'good' });
  const release = { what: 'release' } as const;
  const fields = mark(1, release).fields;
  const bad: Record<string, MarkBlob> = {
    'dated after it was stored': mark(-60, release, { storedAt: NOW }),
    'of the drills': mark(1, release, { kind: 'drill' }),
    'without a snapshot': mark(1, release, { fields: { ...fields, snapshot: undefined } }),
    'of another name': mark(1, { ...release, snapshot: `${NAME}.bak` }),
    'of another prefix': mark(1, { ...release, snapshot: `prod/${NAME}` }),
    'without a moment': mark(1, release, { fields: { ...fields, at: '' } }),
    'of a day that is none': mark(1, release, { fields: { ...fields, at: '2026-02-30T00:00:00.000Z' } }),
    'of a later version': mark(1, release, { fields: { ...fields, what: 'burn' } }),
    'of a limit that is none': mark(1, {}, { fields: { ...fields, what: 'keep', until: 'tomorrow' } }),
    'with a note that cannot be read': mark(1, release, { fields: { ...fields, note: '100%' } }),
    'with nothing': mark(1, {}, { fields: {} }),
    'with a bad signature': mark(1, release, { signature: { state: 'bad', keyId: null } }),
  };
  for (const [what, blob] of Object.entries(bad)) t.match(kept(good, blob), { note: 'good' }, what);
  t.end();
});

t.test('a note that cannot be read is omitted, and the snapshot is kept', (t) => {
  const { fields } = mark(1);
  const bad: Record<string, MarkBlob> = {
    'with a long note': mark(1, { note: 'x'.repeat(201) }),
    'with an empty note': mark(1, { note: ' ' }),
    'with control characters': mark(1, { note: 'a\u001b[2Jb' }),
    'with a note that is not encoded': mark(1, {}, { fields: { ...fields, note: '100%' } }),
    'with a note of a wrong type': mark(1, {}, { fields: { ...fields, note: ['a', 'b'] } }),
  };
  for (const [what, blob] of Object.entries(bad))
    t.strictSame(kept(mark(60, { what: 'release' }), blob), FOREVER, what);
  t.end();
});

t.test('with verification keys only signed marks count: who can only add blobs releases nothing', (t) => {
  const signed: RecordSignature = { state: 'valid', keyId: '00' };
  const keep = mark(9, {}, { signature: signed });
  const forged = (['unsigned', 'unknown-key', 'bad'] as const).map((state) => {
    return mark(1, { what: 'release' }, { signature: { state, keyId: null } });
  });
  const required = { ...RULES, areSignaturesRequired: true };
  t.ok(readMarks([keep, ...forged], required)(`prod/${NAME}`));
  t.equal(readMarks([mark(9), ...forged], required)(`prod/${NAME}`), undefined, 'nor keeps anything');
  const release = mark(1, { what: 'release' }, { signature: signed });
  t.equal(readMarks([keep, release], required)(`prod/${NAME}`), undefined);
  t.end();
});

t.test('the next mark is later than all others, also within a second of the service', (t) => {
  t.strictSame(nextMoment(NAME, [mark(9)], NOW), NOW);
  const [first, second] = [mark(0), mark(-1 / MINUTE)];
  t.strictSame(nextMoment(NAME, [second, first], NOW), new Date(NOW.getTime() + 2));
  t.strictSame(nextMoment(nameOf(NOW), [second, first], NOW), NOW, 'of its own snapshot');
  t.end();
});

t.test('marks that decide nothing any more', (t) => {
  const blob = storedBlob('prod/', `prod/${NAME}`, recordOf(TAKEN_AT), { contentLength: 1, etag: 'x', createdOn: NOW });
  const gone = { snapshot: nameOf(NOW) };
  const signature: RecordSignature = { state: 'valid', keyId: '00' };
  const obsolete = (marks: MarkBlob[], rules = {}): number[] =>
    obsoleteMarks([blob], marks, { ...RULES, ...rules }).map((one) => marks.indexOf(one));
  t.strictSame(obsolete([mark(90), mark(80, { what: 'release' }), mark(85)]), [0, 2], 'replaced');
  t.strictSame(
    obsolete([mark(90), mark(80, {}, { signature: { state: 'bad', keyId: null } })]),
    [],
    'not by a forged one',
  );
  t.strictSame(
    obsolete([mark(90, {}, { signature }), mark(80)], { areSignaturesRequired: true }),
    [],
    'not by an unsigned one, which stays as well',
  );
  t.strictSame(obsolete([mark(90, { until: new Date(0) })]), [], 'expired, and the latest one');
  t.strictSame(
    obsolete([mark(61, gone), mark(59, gone)]),
    [0],
    'of a snapshot that is gone, not of one that is copied',
  );
  t.strictSame(obsolete([mark(61, gone)], { time: undefined }), [], 'without the time of the service');
  t.strictSame(obsolete([mark(90, {}, { fields: {} })]), [], 'what is no mark');
  t.end();
});

t.test('notes, and the reason in tables', (t) => {
  for (const note of ['before 1.36', 'vor dem Umzug', '升级之前', 'x'.repeat(200), 'a "b" <c>'])
    t.ok(isNote(note), note);
  for (const note of ['', ' ', 'x'.repeat(201), 'a\nb', 'a\u0000', '\u202eabc', 'a\u200bb', '\ud800']) {
    t.notOk(isNote(note), JSON.stringify(note));
  }
  const until = new Date('2027-02-26T23:59:59.999Z');
  t.equal(keptText({ until, note: 'before 1.36' }), 'kept until 2027-02-26: before 1.36');
  t.equal(keptText({ until, note: undefined }), 'kept until 2027-02-26');
  t.equal(keptText({ until: undefined, note: 'n' }), 'kept: n');
  t.equal(keptText(FOREVER), 'kept');
  t.end();
});
