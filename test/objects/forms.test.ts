import { createCipheriv, randomBytes } from 'node:crypto';
import { xsalsa20poly1305 } from '@noble/ciphers/salsa.js';
import t from 'tap';
import { parse } from 'yaml';
import { parseCbor } from '../../src/objects/cbor.ts';
import { cleaned } from '../../src/objects/clean.ts';
import { decrypt } from '../../src/objects/decryption.ts';
import { durationText, timeText } from '../../src/objects/go-forms.ts';
import { jsonText, parseJson } from '../../src/objects/json-text.ts';
import { parseSelector } from '../../src/objects/label-selector.ts';
import { differingLines } from '../../src/objects/line-difference.ts';
import { filePath } from '../../src/objects/object-files.ts';
import type { JsonObject } from '../../src/objects/object-values.ts';
import { yamlText } from '../../src/objects/yaml-text.ts';
import { Random } from '../support/random.ts';

const UNREADABLE = { name: 'UnreadableValue' };

t.test('numbers of JSON stay exact', (t) => {
  const text = '{"a": 9223372036854775807, "b": -9007199254740993, "c": 1.5, "d": 12345678901234567890123, "e": "1"}';
  t.strictSame(parseJson(Buffer.from(text)), {
    ...{ a: 9223372036854775807n, b: -9007199254740993n, c: 1.5, d: 1.2345678901234568e22, e: '1' },
  });
  t.equal(
    jsonText({ a: [9007199254740993n, {}, []], b: { c: '\u0085' } }).replaceAll(/\s/g, ''),
    '{"a":[9007199254740993,{},[]],"b":{"c":"\\u0085"}}',
  );
  t.throws(() => parseJson(Buffer.from('{"a":')), UNREADABLE);
  t.end();
});

t.test('CBOR', (t) => {
  const hex = (text: string): unknown => parseCbor(Buffer.from(text.replaceAll(' ', ''), 'hex'));
  t.strictSame(hex('d9d9f7 a2 41 61 01 41 62 82 20 43 78 79 7a'), { a: 1, b: [-1, 'xyz'] }, 'text in byte strings');
  t.strictSame(hex('a1 61 61 d6 42 00 ff'), { a: 'AP8=' }, 'bytes');
  t.strictSame(hex('83 1b 00 20 00 00 00 00 00 01 f9 3e 00 fb 3f f8 00 00 00 00 00 00'), [9007199254740993n, 1.5, 1.5]);
  t.strictSame(hex('83 f4 f5 f6'), [false, true, null]);
  for (const wrong of [
    '',
    '82 01',
    '5f 41 61 ff',
    'f7',
    'f9 7c 00',
    'c2 41 01',
    'a2 41 61 01 41 61 02',
    '01 01',
    'a1 01 01',
    '1b ff ff ff ff ff ff ff ff',
  ]) {
    t.throws(() => hex(wrong), UNREADABLE, wrong);
  }
  t.end();
});

t.test('times and durations as Go prints them', (t) => {
  t.equal(timeText(1_767_225_845, 0, 0), '2026-01-01T00:04:05Z');
  t.equal(timeText(-1, 1000, 6), '1969-12-31T23:59:59.000001Z');
  t.throws(() => timeText(2n ** 62n, 0, 0), UNREADABLE);
  const durations: readonly (readonly [bigint, string])[] = [
    ...[[0n, '0s'] as const, [1n, '1ns'] as const, [1500n, '1.5µs'] as const, [2_000_000n, '2ms'] as const],
    ...[
      [1_500_000_000n, '1.5s'] as const,
      [300_000_000_000n, '5m0s'] as const,
      [-3_600_000_000_000n, '-1h0m0s'] as const,
    ],
    [-(2n ** 63n), '-2562047h47m16.854775808s'],
  ];
  for (const [nanoseconds, text] of durations) t.equal(durationText(nanoseconds), text);
  t.end();
});

t.test('what is encrypted is opened with the right key only', (t) => {
  const [secret, other, key] = [randomBytes(32), randomBytes(32), Buffer.from('/registry/secrets/a/b')];
  const plain = Buffer.from('k8s\0something');
  const cbc = (): Buffer => {
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-256-cbc', secret, iv);
    return Buffer.concat([iv, cipher.update(plain), cipher.final()]);
  };
  const gcm = (): Buffer => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', secret, nonce).setAAD(key);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  };
  const box = (): Buffer => {
    const nonce = randomBytes(24);
    return Buffer.concat([nonce, xsalsa20poly1305(secret, nonce).encrypt(plain)]);
  };
  const isPlain = (bytes: Buffer): boolean => bytes.subarray(0, 4).equals(Buffer.from('k8s\0'));
  for (const [provider, data] of [
    ['aescbc', cbc()],
    ['aesgcm', gcm()],
    ['secretbox', box()],
  ] as const) {
    const value = Buffer.concat([Buffer.from(`k8s:enc:${provider}:v1:key1:`), data]);
    const keyOf = (bytes: Buffer, name = 'key1') => ({
      provider,
      version: 'v1',
      name,
      secret: bytes.toString('base64'),
    });
    const open = (...keys: ReturnType<typeof keyOf>[]): Buffer => decrypt(value, key, keys, isPlain);
    t.ok(open(keyOf(secret)).equals(plain), provider);
    t.ok(open(keyOf(other), keyOf(secret)).equals(plain), 'two keys have the same name');
    t.throws(() => open(), { message: `is encrypted with key key1 of ${provider}` });
    t.throws(() => open(keyOf(secret, 'key2')), { message: /which is not in the encryption configuration/ });
    t.throws(() => open(keyOf(other)), { message: /cannot be decrypted/ });
    t.throws(() => open(keyOf(Buffer.alloc(5))), { message: /cannot be decrypted/ });
    t.throws(() => decrypt(value.subarray(0, 30), key, [keyOf(secret)], isPlain), UNREADABLE);
    if (provider === 'aesgcm') t.throws(() => decrypt(value, Buffer.from('/x'), [keyOf(secret)], isPlain), UNREADABLE);
  }
  for (const [value, message] of [
    ['k8s:enc:kms:v2:vault:x', /key management service vault \(kms v2\)/],
    ['k8s:enc:aescbc:v9:key1:x', /which is not known/],
    ['k8s:enc:', /in an unknown way/],
  ] as const) {
    t.throws(() => decrypt(Buffer.from(value), key, [], isPlain), { message });
  }
  t.end();
});

t.test('YAML is read back as it was, by YAML 1.1 and 1.2', (t) => {
  const random = new Random(7);
  const pieces = [
    ...'a \n\t:#-\'"\\|{}[]%@=~,&*!?<>1.e_/yN\r'.split(''),
    'null',
    'yes',
    '0x1',
    '\u007f',
    '\u0085',
    '\u2028',
    '\ufeff',
    'é',
    '😀',
    '\u0000',
  ];
  const text = (): string => Array.from({ length: random.below(8) }, () => random.of(pieces)).join('');
  for (let round = 0; round < 2000; round++) {
    const value = {
      [text()]: text(),
      a: [text(), { [text()]: [[text()], {}, []] }, 9007199254740993n, 1.5, null, true],
      ['k'.repeat(600)]: text(),
    };
    for (const version of ['1.1', '1.2'] as const) {
      const read: unknown = parse(yamlText(value), { version, intAsBigInt: true, merge: false });
      const found = JSON.stringify(read, (_, element: unknown) =>
        typeof element === 'bigint' ? String(element) : element,
      );
      const sorted = Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
      t.same(
        JSON.parse(found),
        JSON.parse(
          JSON.stringify(sorted, (_, element: unknown) => (typeof element === 'bigint' ? String(element) : element)),
        ),
      );
    }
  }
  t.equal(
    yamlText({ a: { script: 'one\ntwo\n' }, b: [{ c: '0123', d: 'plain text' }] }),
    'a:\n  script: |\n    one\n    two\nb:\n- c: "0123"\n  d: plain text\n',
  );
  t.end();
});

t.test('selectors of labels', (t) => {
  const object = (labels?: JsonObject): JsonObject => ({ metadata: labels === undefined ? {} : { labels } });
  const web = object({ app: 'web', 'example.com/tier': 'front' });
  for (const text of [
    '',
    'app=web',
    'app==web,example.com/tier=front',
    'app!=db',
    'app',
    '!other',
    'app in (db, web)',
    'app notin (db),app',
  ]) {
    t.equal(parseSelector(text)(web), true, text);
  }
  for (const text of ['app=db', 'app!=web', '!app', 'other', 'app in (a,b)', 'app notin (web)', 'app=web,other']) {
    t.equal(parseSelector(text)(web), false, text);
  }
  const numbered = object({ tier: '10', text: '1x', large: '9223372036854775807', over: '9223372036854775808' });
  for (const text of ['tier>9', 'tier > 9,tier<11', 'tier<0011', 'large>9223372036854775806', 'tier,tier>0'])
    t.equal(parseSelector(text)(numbered), true, text);
  for (const text of ['tier>10', 'tier<10', 'tier<9', 'text>0', 'text<9', 'other>0', 'other<9', 'over>0'])
    t.equal(parseSelector(text)(numbered), false, text);
  t.equal(parseSelector('constructor')(object({})), false);
  t.equal(parseSelector('a!=b')(object()), true);
  for (const text of [
    'a b',
    '=',
    'a in b',
    '!a=b',
    'a in (b',
    ',',
    'a>',
    'a>b',
    'a<-1',
    'a<1.5',
    'a>=1',
    '!a>1',
    'a<9223372036854775808',
  ])
    t.throws(() => parseSelector(text), { name: 'UsageError' }, text);
  t.end();
});

t.test('names of files lead nowhere else, and are not too long', (t) => {
  const path = (namespace: string, kind: string, name: string, group = ''): string =>
    filePath({ apiVersion: 'v1', group, kind, namespace, name });
  t.equal(path('shop', 'Deployment', 'web', 'apps'), 'shop/deployment.apps/web.yaml');
  t.equal(
    path('', 'ClusterRole', 'system:node', 'rbac.authorization.k8s.io'),
    '_cluster/clusterrole.rbac.authorization.k8s.io/system%3Anode.yaml',
  );
  t.equal(path('..', '../..', '.'), '%2E%2E/%2E.%2F../%2E.yaml');
  t.equal(path('kustomization.yaml', 'X', 'a'), 'kustomization%2Eyaml/x/a.yaml');
  t.equal(path('_cluster', 'X', 'a\0b'), '%5Fcluster/x/a%00b.yaml');
  const [long, other] = [path('n', 'Pod', 'a'.repeat(253)), path('n', 'Pod', `${'a'.repeat(252)}b`)];
  t.ok(long.split('/').every((part) => Buffer.byteLength(part) <= 255));
  t.not(long, other);
  t.end();
});

t.test('objects are cleaned by the rules', (t) => {
  const { object, comments, warnings } = cleaned({
    ...{ apiVersion: 'batch/v1', kind: 'Job', status: { succeeded: 1 } },
    metadata: {
      ...{
        name: 'a',
        uid: 'u',
        resourceVersion: '1',
        generation: 2,
        creationTimestamp: 'x',
        selfLink: '/',
        managedFields: [],
      },
      ...{ deletionTimestamp: 'x', deletionGracePeriodSeconds: 3, labels: { 'controller-uid': 'u' } },
      ...{ ownerReferences: [{ kind: 'CronJob', name: 'c' }], finalizers: ['example.com/x'] },
    },
    spec: {
      selector: { matchLabels: { 'batch.kubernetes.io/controller-uid': 'u' } },
      template: {
        metadata: { labels: { 'controller-uid': 'u', 'batch.kubernetes.io/controller-uid': 'u', app: 'a' } },
      },
    },
  });
  t.strictSame(object, {
    ...{ apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'a' } },
    spec: { template: { metadata: { labels: { app: 'a' } } } },
  });
  t.strictSame([comments, warnings], [['It belonged to CronJob c.'], ['has no finalizers any more: example.com/x']]);
  const of = (kind: string, rest: JsonObject): JsonObject => cleaned({ kind, metadata: {}, ...rest }).object;
  const addresses = { clusterIPs: ['None'], ipFamilies: ['IPv4'], ports: [] };
  t.strictSame(of('Service', { spec: { clusterIP: '10.0.0.1', ...addresses } })['spec'], { ports: [] });
  t.strictSame(of('Service', { spec: { clusterIP: 'None', ...addresses } })['spec'], { clusterIP: 'None', ports: [] });
  t.strictSame(of('Pod', { spec: { nodeName: 'n', containers: [] } })['spec'], { containers: [] });
  t.strictSame(of('PersistentVolume', { spec: { claimRef: { name: 'c', uid: 'u', resourceVersion: '1' } } })['spec'], {
    claimRef: { name: 'c' },
  });
  const claim = of('PersistentVolumeClaim', {
    metadata: { annotations: { 'pv.kubernetes.io/bind-completed': 'yes', other: 'x' } },
    spec: { volumeName: 'v', storageClassName: 's' },
  });
  t.strictSame(claim, {
    kind: 'PersistentVolumeClaim',
    metadata: { annotations: { other: 'x' } },
    spec: { storageClassName: 's' },
  });
  const manual = { spec: { manualSelector: true, selector: { matchLabels: { 'controller-uid': 'u' } } } };
  t.strictSame(of('Job', manual)['spec'], manual.spec, 'a selector of the user');
  t.end();
});

t.test('lines that differ', (t) => {
  t.strictSame(differingLines('a\nb\nc', 'a\nx\nc'), [' a', '-b', '+x', ' c']);
  t.strictSame(differingLines('a\nb', 'a\nb'), []);
  const lines = Array.from({ length: 20 }, (_, index) => String(index));
  const changed = lines.with(2, 'two').with(17, 'x');
  const shown = differingLines(lines.join('\n'), changed.join('\n'));
  t.strictSame(
    shown.filter((line) => !line.startsWith(' ')),
    ['-2', '+two', '-17', '+x'],
  );
  t.ok(shown.length < 20);
  t.end();
});
