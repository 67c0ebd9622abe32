import t from 'tap';
import { checkVersion } from '../../src/restore/etcd-tool.ts';

t.test('a tool and the versions that it can restore', (t) => {
  const tool = (version: string) => ({ path: '/x', name: `etcdutl ${version}`, version, canBump: true });
  const fit = (ofTool: string, members: string | undefined, data = members) =>
    checkVersion(tool(ofTool), { data, members });
  t.equal(fit('3.6.1', '3.6.16'), undefined);
  t.equal(fit('3.6.1', '3.6.16', '3.6.0'), undefined);
  t.equal(fit('3.6.1', undefined), undefined);
  t.match(fit('3.6.1', '3.5.35', '3.5.0'), /of etcd 3\.5\.35: start the members with etcd 3\.6\.1,/);
  t.match(fit('3.10.0', '3.9.0'), /start the members with etcd/);
  for (const [old, late] of [
    ['3.5.30', '3.6.0'],
    ['3.4.23', '3.5.0'],
    ['3.9.0', '3.10.0'],
  ] as const) {
    t.throws(() => fit(old, late), { name: 'UnsafeError' }, `${old} for ${late}`);
  }
  t.end();
});
