import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { encryptionKeysIn } from '../../src/bundle/encryption-config.ts';
import { withServedVersion } from '../../src/objects/crd-version.ts';
import { messageOf } from '../../src/objects/message-types.ts';
import { isObject, type JsonObject, listAt, textAt, UnreadableValue } from '../../src/objects/object-values.ts';
import { ObjectIndex } from '../../src/objects/object-index.ts';
import { readObject } from '../../src/objects/stored-value.ts';
import { keyEntry } from '../support/key-entry.ts';
import { clusterSnapshot, fixtureLines, liveValues, withoutNullTimes } from '../support/object-fixtures.ts';
import { Random } from '../support/random.ts';
import { OBJECTS } from '../support/stored-objects.ts';

const keys = encryptionKeysIn(readFileSync(join(OBJECTS, 'encryption.json'), 'utf8')) ?? [];
const everyType = [1, 2].flatMap((seed) => fixtureLines(`every-type-${seed}.jsonl.br`));
const valueOf = (line: JsonObject): Buffer => Buffer.from(textAt(line, 'value'), 'base64');
const read = (value: Buffer): JsonObject | undefined =>
  readObject({ key: Buffer.from('/registry/x'), value, modRevision: 7 }, keys);

const UNREADABLE = { name: 'UnreadableValue' };

t.test('each built-in type has the JSON that Go makes of it', (t) => {
  t.ok(everyType.length > 300);
  for (const line of everyType) {
    const want = line['json'] as JsonObject;
    const metadata = { ...(want['metadata'] as JsonObject), resourceVersion: '7' };
    if (want['kind'] === 'PersistentVolumeClaim')
      want['status'] = { phase: 'Pending', ...(want['status'] as JsonObject) };
    for (const template of listAt(want, 'spec', 'volumeClaimTemplates')) {
      if (want['kind'] === 'StatefulSet')
        Object.assign(template as object, { apiVersion: 'v1', kind: 'PersistentVolumeClaim' });
    }
    t.strictSame(
      read(valueOf(line)),
      withServedVersion({ ...want, metadata }),
      `${textAt(want, 'apiVersion')} ${textAt(want, 'kind')}`,
    );
  }
  t.end();
});

t.test('each object of a cluster is what its API server returned, Secrets of all providers included', (t) => {
  const identity = (object: JsonObject): string =>
    ['kind', 'apiVersion'].map((name) => textAt(object, name)).join(' ') +
    ['namespace', 'name'].map((name) => ` ${textAt(object, 'metadata', name)}`).join('');
  const stored = liveValues(clusterSnapshot()).flatMap((value): JsonObject[] => {
    const object = readObject(value, keys);
    return object === undefined ? [] : [object];
  });
  const found = new Map(stored.map((object) => [identity(object), object]));
  const answers = fixtureLines('answers.jsonl.br');
  t.ok(answers.length > 200);
  for (const answer of answers) {
    t.strictSame(withoutNullTimes(found.get(identity(answer)) ?? null), withoutNullTimes(answer), identity(answer));
  }
  t.equal(found.get('Widget example.com/v1 shop big') !== undefined, true);
  t.end();
});

t.test('a custom resource in CBOR is what it is in JSON', (t) => {
  const widgets = fixtureLines('answers.jsonl.br').filter(({ kind }) => kind === 'Widget');
  const values = JSON.parse(readFileSync(join(OBJECTS, 'widgets.cbor.json'), 'utf8')) as string[];
  t.equal(values.length, widgets.length);
  for (const [index, widget] of widgets.entries()) {
    const value = Buffer.from(values[index] ?? '', 'base64');
    t.equal(value.toString('hex', 0, 3), 'd9d9f7');
    const modRevision = Number(textAt(widget, 'metadata', 'resourceVersion'));
    t.strictSame(readObject({ key: Buffer.from('/registry/x'), value, modRevision }, []), widget);
  }
  t.end();
});

t.test('types that newer versions of Kubernetes dropped are known', (t) => {
  for (const type of [
    ['extensions/v1beta1', 'Ingress'],
    ['policy/v1beta1', 'PodSecurityPolicy'],
    ['batch/v2alpha1', 'CronJob'],
    ['autoscaling/v2beta2', 'HorizontalPodAutoscaler'],
    ['flowcontrol.apiserver.k8s.io/v1alpha1', 'FlowSchema'],
    ['resource.k8s.io/v1alpha2', 'ResourceClaim'],
  ] as const) {
    t.type(messageOf(type[0], type[1]), 'string', type.join(' '));
  }
  t.equal(messageOf('constructor', 'x'), undefined);
  t.end();
});

t.test('2,000 mutations of values: an object of the same type, or an error of the reader', (t) => {
  const random = new Random(1);
  const values = [...everyType.map(valueOf), ...liveValues(clusterSnapshot()).map(({ value }) => value)];
  const counts = { read: 0, unreadable: 0, none: 0 };
  const index = new ObjectIndex(keys);
  for (let round = 0; round < 2000; round++) {
    let value = Buffer.from(random.of(values));
    const at = random.below(value.length);
    const kind = round % 4;
    if (kind === 0) value[at] = random.below(256);
    else if (kind === 1) value = value.subarray(0, at);
    else if (kind === 2) value = Buffer.concat([value.subarray(0, at), value.subarray(at + 1 + random.below(8))]);
    else value.fill(0xff, at, Math.min(at + 10, value.length));
    index.visit(keyEntry('/registry/x', value, 7), 0);
    try {
      const object = read(value);
      if (object === undefined) counts.none++;
      else {
        counts.read++;
        if (!isObject(object['metadata'])) t.fail('no metadata');
      }
    } catch (error) {
      if (!(error instanceof UnreadableValue)) throw error;
      counts.unreadable++;
    }
  }
  t.ok(counts.read > 100 && counts.unreadable > 100, JSON.stringify(counts));
  t.end();
});

t.test('values that are deep or large on purpose end with an error', (t) => {
  const unknown = (apiVersion: string, kind: string, raw: Buffer): Buffer => {
    const field = (number: number, bytes: Buffer): Buffer => {
      const size: number[] = [];
      for (let rest = bytes.length; ; rest = Math.floor(rest / 128)) {
        size.push(rest < 128 ? rest : (rest % 128) + 128);
        if (rest < 128) break;
      }
      return Buffer.concat([Buffer.from([number * 8 + 2, ...size]), bytes]);
    };
    const type = Buffer.concat([field(1, Buffer.from(apiVersion)), field(2, Buffer.from(kind))]);
    return Buffer.concat([Buffer.from('k8s\0'), field(1, type), field(2, raw)]);
  };
  t.match(read(unknown('v1', 'Pod', Buffer.alloc(0))), { kind: 'Pod' });
  t.throws(() => read(unknown('v9', 'Pod', Buffer.alloc(0))), { message: /has a type that is not known: Pod of v9/ });
  t.throws(() => read(unknown('v1', 'Pod', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]))), UNREADABLE);
  for (const [start, end] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const text = `{"apiVersion":"v1","kind":"X","a":${start.repeat(100_000)}1${end.repeat(100_000)}}`;
    t.throws(() => read(Buffer.from(text)), { message: /more than 500 levels/ });
  }
  const cbor = Buffer.concat([Buffer.from([0xd9, 0xd9, 0xf7]), Buffer.alloc(100_000, 0x81)]);
  t.throws(() => read(cbor), { message: /more than 500 levels/ });
  t.throws(
    () => read(Buffer.from([0xd9, 0xd9, 0xf7, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
    UNREADABLE,
  );
  const many = unknown('v1', 'ConfigMapX', Buffer.alloc(0));
  t.throws(() => read(many), UNREADABLE);
  // Each two bytes are a container.
  const containers = Buffer.from([0x12, 0x00]);
  const spec = Buffer.concat(Array.from({ length: 2_100_000 }, () => containers));
  t.throws(() => read(unknown('v1', 'Pod', Buffer.concat([Buffer.from([0x12, 0xc0, 0xac, 0x80, 0x02]), spec]))), {
    message: /more than 2000000 elements/,
  });
  t.equal(read(Buffer.from('12345')), undefined, 'such as compact_rev_key');
  t.equal(read(Buffer.from('{"a":1}')), undefined);
  t.end();
});
