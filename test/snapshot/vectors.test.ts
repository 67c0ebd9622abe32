import t from 'tap';
import { countResources } from '../../src/snapshot/keys.ts';
import { mutate, mutations, snapshot, snapshotOf, vectors } from '../support/vectors.ts';
import { factsOf, liveKeysOf, verify } from '../support/verify.ts';

const number = (text: string, pattern: RegExp): string => BigInt(pattern.exec(text)?.[1] ?? '0').toString(16);

t.test('real snapshots: the same numbers as the real tools and the server', async (t) => {
  for (const vector of vectors()) {
    t.test(vector.name, async (t) => {
      const bytes = snapshot(vector);
      const verdict = verify(bytes);
      const facts = factsOf(verdict);
      const [status] = Object.values(vector.status);
      t.equal(facts.size, vector.fileSize);
      t.equal(facts.sha256, vector.sha256File);
      t.equal(facts.hash, status?.hash.toString(16));
      t.equal(facts.revision, status?.revision);
      t.equal(facts.totalKeys, status?.totalKey);
      t.equal(facts.totalSize, status?.totalSize);
      t.equal(facts.totalKeys36, vector.expected36.totalKey);
      t.equal(facts.liveKeys, vector.server.liveKeys);
      t.equal(facts.effectiveRevision, vector.server.revision);
      for (const [tool, text] of Object.entries(vector.statusText)) t.ok(text.includes(facts.hash), tool);

      const byPrefix: Record<string, number> = {};
      for (const { name, keys } of countResources(liveKeysOf(bytes, facts))) {
        const prefix = name === '(other)' ? name : `/registry/${name.split('/')[0]}/`;
        byPrefix[prefix] = (byPrefix[prefix] ?? 0) + keys;
      }
      t.strictSame(byPrefix, vector.server.liveKeysByPrefix);

      const [live] = vector.server.hashKV;
      t.strictSame(
        facts.hashKV,
        { hash: live?.HashKV.hash, revision: vector.server.revision, compactRevision: live?.HashKV.compact_revision },
        'HashKV of the snapshotted member',
      );

      if (vector.status36 !== undefined && vector.hashkv36 !== undefined) {
        const { hash, hashRevision, compactRevision } = vector.hashkv36;
        t.strictSame(facts.hashKV, { hash, revision: hashRevision, compactRevision }, 'etcdutl hashkv');
        t.equal(facts.hash, vector.status36.hash.toString(16));
        t.equal(facts.totalKeys36, vector.status36.totalKey);
        t.equal(facts.storageVersion, vector.status36.version);
      } else t.equal(facts.storageVersion, undefined);

      const id = number(vector.text, /"members": \[\s*\{\s*"ID": (\d+)/);
      const member = facts.members.find((member) => member.id === id);
      t.ok(member, `member ${id}`);
      t.equal(facts.members.length, vector.name.includes('cluster3') ? 3 : 1);
      t.match(member?.peerURLs[0], /^http:\/\/127\.0\.0\.1:\d+$/);
      t.equal(facts.clusterVersion?.slice(0, 3), vector.serverVersion.slice(0, 3));
      t.equal(facts.authEnabled, vector.name.endsWith('auth'));
      const alarmed = number(vector.text, /"alarms": "memberID:(\d+)/);
      t.strictSame(facts.alarms, alarmed === '0' ? [] : [{ memberId: alarmed, alarm: 'NOSPACE' }]);

      t.match(verdict.report, {
        ok: true,
        size: facts.size,
        sha256: facts.sha256,
        trailer: vector.trailer,
        hash: facts.hash,
        revision: facts.revision,
        effectiveRevision: facts.effectiveRevision,
        totalKeys: facts.totalKeys,
        liveKeys: facts.liveKeys,
        totalSize: facts.totalSize,
        faults: [],
        faultCount: 0,
      });
    });
  }
});

t.test('corruptions: each answered as recommended', async (t) => {
  for (const mutation of mutations()) {
    t.test(`${mutation.id}: ${mutation.description}`, async (t) => {
      const base = snapshotOf(mutation.base);
      const bytes = mutate(base, mutation);
      t.equal(bytes.length, mutation.resultSize);
      const verdict = verify(bytes);
      t.equal(verdict.report.sha256, mutation.resultSha256, 'the mutation is the one that the tools judged');
      t.equal(verdict.ok ? 'accept' : 'reject', mutation.recommended, verdict.ok ? '' : verdict.problems[0].message);
      if (!verdict.ok) t.equal(verdict.undecided, false, 'for certain');
      if (verdict.ok) {
        const rejected = Object.entries(mutation.toolsReject).filter(([, rejects]) => rejects);
        t.strictSame(rejected, [], 'no real tool rejects what is accepted');
      }
    });
  }
});
