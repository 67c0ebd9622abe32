/** Metadata of a snapshot as the service has it. */
export type Metadata = Readonly<Record<string, string>>;

/** What is wrong with a record; undefined leaves a field out. */
export type Defect = Readonly<Record<string, string | undefined>>;

const member = (more: object = {}): object => ({
  ...{ id: 'a1', name: 'm1', peerURLs: ['https://10.0.0.1:2380'], isLearner: false },
  ...more,
});

const members = (...list: unknown[]): string => JSON.stringify(list);

/** Fields that every record has. */
export const REQUIRED = [
  ...['tool', 'sha256', 'hash', 'revision', 'totalkeys', 'totalsize', 'etcdversion'],
  ...['clusterid', 'memberid', 'members', 'takenat', 'uploadid'],
];

/** Values that are no numbers of this record. */
const NO_NUMBERS = [
  '',
  '-1',
  '+1',
  '1.5',
  '1e3',
  '0x10',
  ' 7',
  '007',
  'NaN',
  'Infinity',
  '9'.repeat(16),
  '9'.repeat(400),
];

const WRONG: Readonly<Record<string, readonly string[]>> = {
  tool: ['azcopy', 'etcd-snapshot', 'etcd-snapshot/', 'etcd-snapshot/x', 'etcd-snapshot/1.2.3.4', 'etcd-snapshot/1\n'],
  sha256: ['xyz', 'AB'.repeat(32), 'ab'.repeat(31), 'ab'.repeat(33)],
  hash: ['', 'xyz', '123456789', 'ABCD'],
  revision: NO_NUMBERS,
  totalkeys: NO_NUMBERS,
  livekeys: NO_NUMBERS,
  totalsize: [...NO_NUMBERS, '0', '32', '4095', '281474976710657'],
  etcdversion: ['', 'three', '3', '3.5', `3.5.${'9'.repeat(20_000)}`, '3.5.30\u001b[2J', '3.5.30 $(reboot)'],
  storageversion: ['', 'three', '3.6', `3.6.0-${'x'.repeat(100)}`],
  clusterid: ['', 'C1', '0xc1', 'c'.repeat(17), 'xyz', '__proto__'],
  memberid: ['', 'A1', 'a'.repeat(17)],
  imported: ['', 'a\u001b[2J', 'schnappschuss-ä', 'a'.repeat(256)],
  uploadid: ['', '00ff', 'AB'.repeat(16), 'ab'.repeat(17)],
  takenat: [
    ...['', 'yesterday', '2026-02-03', '2026-02-03T04:05:06Z', '2026-02-03T04:05:06.789+01:00', '1770091506789'],
    ...[
      '2026-02-30T04:05:06.789Z',
      '2026-13-03T04:05:06.789Z',
      '+275760-09-13T00:00:00.000Z',
      '-000001-01-01T00:00:00.000Z',
    ],
    'Tue, 03 Feb 2026 04:05:06 GMT',
  ],
  members: [
    ...['', '{', 'null', '{}', '"x"', '7', members(null), members(1), members('m1'), members([]), members({})],
    members({ peerURLs: 'nope' }),
    members(member({ id: undefined })),
    members(member({ id: 7 })),
    members(member({ id: '__proto__' })),
    members(member({ name: undefined })),
    members(member({ name: null })),
    members(member({ name: 'm'.repeat(256) })),
    members(member({ name: 'm1\nm2' })),
    members(member({ name: '\u202em' })),
    members(member({ isLearner: undefined })),
    members(member({ isLearner: 'false' })),
    members(member({ peerURLs: [] })),
    members(member({ peerURLs: {} })),
    members(member({ peerURLs: [7] })),
    members(member({ peerURLs: Array.from({ length: 17 }, () => 'https://10.0.0.1:2380') })),
    ...['', 'nope', '10.0.0.1:2380', 'ftp://10.0.0.1:2380', 'https://10.0.0.1', 'https://10.0.0.1:2380/x'].map((url) =>
      members(member({ peerURLs: [url] })),
    ),
    ...['https://10.0.0.1:2380\ntouch /tmp/y', 'https://a b:1', 'https://$(reboot):1', 'https://10.0.0.1:99999'].map(
      (url) => members(member({ peerURLs: [url] })),
    ),
    ...[
      'https://u:p@10.0.0.1:2380',
      'https://10.0.0.1:2380?x',
      `https://${'a'.repeat(600)}:1`,
      'javascript:alert(1)',
    ].map((url) => members(member({ peerURLs: [url] }))),
    members(member(), member({ name: 'twice' })),
    members(...Array.from({ length: 101 }, (_, index) => member({ id: (index + 1).toString(16) }))),
    `[{"__proto__":${JSON.stringify(member())}}]`,
    '{"__proto__":[]}',
    `${'['.repeat(4000)}${']'.repeat(4000)}`,
  ],
};

/** What can be wrong with a record, by name: each field missing, and each wrong in many ways. */
export const DEFECTS: ReadonlyMap<string, Defect> = new Map<string, Defect>([
  ...REQUIRED.map((field) => [`${field} missing`, { [field]: undefined }] as const),
  ...Object.entries(WRONG).flatMap(([field, values]) =>
    values.map((value) => [`${field} = ${JSON.stringify(value.slice(0, 60))}`, { [field]: value }] as const),
  ),
  ['more keys than bytes', { totalkeys: '4097', totalsize: '4096' }],
]);

/** The metadata with this defect. */
export function withDefect(metadata: Metadata, defect: Defect): Metadata {
  const all = Object.entries({ ...metadata, ...defect });
  return Object.fromEntries(all.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
