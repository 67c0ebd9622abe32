import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { parseMemberConfig, readMemberConfig } from '../../src/restore/member-config.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('member-config');

const FLAGS =
  '--name k8s-master-64789045-0 --peer-client-cert-auth --peer-trusted-ca-file=/etc/kubernetes/certs/ca.crt ' +
  '--initial-advertise-peer-urls https://10.240.255.5:2380 --client-cert-auth --initial-cluster-token k8s-etcd-cluster ' +
  '--initial-cluster k8s-master-64789045-0=https://10.240.255.5:2380,k8s-master-64789045-1=https://10.240.255.6:2380 ' +
  '--data-dir /var/lib/etcddisk --initial-cluster-state new';
const WANTED = {
  name: 'k8s-master-64789045-0',
  initialCluster: 'k8s-master-64789045-0=https://10.240.255.5:2380,k8s-master-64789045-1=https://10.240.255.6:2380',
  initialAdvertisePeerUrls: 'https://10.240.255.5:2380',
  dataDir: '/var/lib/etcddisk',
  walDir: undefined,
};

t.test("a member's configuration as installers write it", (t) => {
  const forms = {
    bare: `DAEMON_ARGS=${FLAGS}\n`,
    quoted: `# etcd\nDAEMON_ARGS="${FLAGS}"\n`,
    exported: `export DAEMON_ARGS='${FLAGS}'\n`,
    'equals signs': `DAEMON_ARGS=${FLAGS.replaceAll(/ (?!-)/g, '=')}`,
    'one hyphen': `DAEMON_ARGS=${FLAGS.replaceAll('--', '-')}`,
    'continued lines': `DAEMON_ARGS="${FLAGS.replaceAll(' --', ' \\\n  --')}"\n`,
    'several lines': `DAEMON_ARGS="${FLAGS.replaceAll(' --', '\n  --')}"\nOTHER=1\n`,
    'line ends of Windows': `# etcd\r\nDAEMON_ARGS="${FLAGS}"\r\n`,
  };
  for (const [what, text] of Object.entries(forms)) {
    t.strictSame(parseMemberConfig(text, 'environment'), WANTED, what);
  }
  const both = `ETCD_NAME="other"\nETCD_WAL_DIR=/wal\nDAEMON_ARGS="${FLAGS}"`;
  t.strictSame(parseMemberConfig(both, 'environment'), { ...WANTED, walDir: '/wal' }, 'flags win over variables');
  const variables =
    'ETCD_NAME="m"\nETCD_DATA_DIR=/var/lib/etcd/default\n#ETCD_WAL_DIR=/wal\nETCD_INITIAL_CLUSTER=m=http://a:1';
  t.match(parseMemberConfig(variables, 'environment'), {
    ...{ name: 'm', dataDir: '/var/lib/etcd/default', walDir: undefined, initialCluster: 'm=http://a:1' },
  });
  t.end();
});

const pod = (container: string, rest = ''): string =>
  `apiVersion: v1\nkind: Pod\nspec:\n${rest}  containers:\n    - name: sidecar\n      command: [sleep, "1"]\n${container}`;

t.test('the static pod of kubeadm', (t) => {
  const flags = [
    ...['--name=m2', '--data-dir=/var/lib/etcd', '--initial-advertise-peer-urls=https://10.0.0.2:2380'],
    ...['--initial-cluster-state=existing', '--initial-cluster=m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380'],
  ];
  const lines = flags.map((flag) => `        - ${flag}\n`).join('');
  const plain = `    - name: etcd\n      command:\n        - etcd\n${lines}`;
  const wanted = {
    name: 'm2',
    initialCluster: 'm1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380',
    dataDir: '/var/lib/etcd',
  };
  t.match(parseMemberConfig(pod(plain), 'yaml'), wanted);
  t.match(
    parseMemberConfig(pod(`    - name: etcd\n      args:\n${lines}`), 'yaml'),
    wanted,
    'the program is the image',
  );
  const mounts = '      volumeMounts:\n        - { name: data, mountPath: /var/lib/etcd }\n';
  const volumes = '  volumes:\n    - { name: data, hostPath: { path: /disk/etcd } }\n';
  t.match(parseMemberConfig(pod(plain + mounts, volumes), 'yaml'), { dataDir: '/disk/etcd' }, 'as the host has it');
  const references = plain.replace('m2', '$(ETCD_NAME)').replace('10.0.0.2', '$(POD_IP)');
  const known = '      env:\n        - { name: ETCD_NAME, value: m2 }\n';
  t.match(
    parseMemberConfig(pod(references + known), 'yaml'),
    { name: 'm2', initialAdvertisePeerUrls: undefined },
    'a variable with a value; an address that is filled in later is not needed',
  );
  for (const other of ['kind: Pod\nspec: {containers: [{command: [kube-apiserver]}]}', '{{{', 'a', '- 1', '']) {
    t.equal(parseMemberConfig(other, 'yaml'), undefined, other);
  }
  t.end();
});

t.test("etcd's own configuration file", (t) => {
  const text = [
    "name: 'm1'\ndata-dir: /var/lib/etcd/m1\nwal-dir:\nsnapshot-count: 10000",
    'initial-advertise-peer-urls: https://10.0.0.1:2380\ninitial-cluster: m1=https://10.0.0.1:2380',
    'client-transport-security:\n  cert-file: /x\nlog-outputs: [stderr]',
  ].join('\n');
  t.match(parseMemberConfig(text, 'yaml'), {
    ...{ name: 'm1', dataDir: '/var/lib/etcd/m1', walDir: undefined, initialCluster: 'm1=https://10.0.0.1:2380' },
    initialAdvertisePeerUrls: 'https://10.0.0.1:2380',
  });
  t.match(parseMemberConfig('name: m1\ndata-dir: /data/$x', 'yaml'), { dataDir: '/data/$x' }, 'nothing is filled in');
  t.end();
});

t.test('a systemd unit', (t) => {
  const unit = (...lines: string[]): string =>
    ['[Unit]', 'Description=etcd', '[Service]', 'Type=notify', ...lines, '[Install]', 'WantedBy=x'].join('\n');
  const forms: Record<string, string[]> = {
    'one line': [`ExecStart=/usr/bin/etcd ${FLAGS}`],
    'continued lines with a comment': [
      'ExecStart=/usr/bin/etcd \\',
      ...FLAGS.split(/ (?=--)/).flatMap((flag) => [`  ${flag} \\`, '# said between']),
      '',
    ],
    'a prefix and quotes': [`ExecStart=-+/usr/bin/etcd ${FLAGS.replace('/var/lib/etcddisk', '"/var/lib/etcddisk"')}`],
    'the last one counts': ['ExecStart=/bin/false --name x', 'ExecStart=', `ExecStart=/usr/bin/etcd ${FLAGS}`],
    'a variable of several words': [`Environment="ARGS=${FLAGS}"`, 'ExecStart=/usr/bin/etcd $ARGS'],
    'a variable within a word': [
      'Environment=DISK=/var/lib/etcddisk',
      `ExecStart=/usr/bin/etcd ${FLAGS.replace('/var/lib/etcddisk', '${DISK}')}`,
    ],
  };
  for (const [what, lines] of Object.entries(forms)) {
    t.strictSame(parseMemberConfig(unit(...lines), 'unit'), WANTED, what);
  }
  const variables = unit('Environment="ETCD_NAME=m1" ETCD_DATA_DIR=/d%%1', 'ExecStart=/usr/bin/etcd');
  t.match(parseMemberConfig(variables, 'unit'), { name: 'm1', dataDir: '/d%1' });
  t.equal(parseMemberConfig(unit(), 'unit'), undefined, 'it starts nothing');
  t.end();
});

t.test('what a file does not contain', async (t) => {
  const shell = (program: string): string =>
    `    - name: etcd\n      command: [${program}, -ec, "exec etcd --name=m1"]\n`;
  const later = '    - name: etcd\n      command: [etcd, --name=$(ETCD_NAME), --data-dir=/d]\n';
  const files: [name: string, text: string, message: RegExp, hint: RegExp][] = [
    ['a.yaml', pod(shell('sh')), /through a shell \(sh -c\), which is not supported/, /--name and --data-dir/],
    ['b.yaml', pod(shell('/bin/bash')), /through a shell \(bash -c\)/, /[Gg]ive --name/],
    ['c.service', '[Service]\nExecStart=/bin/sh -c "etcd --name m1"', /through a shell/, /[Gg]ive --name/],
    ['d.yaml', pod(later), /--name to \$\(ETCD_NAME\), which is known only at run time/, /ps -C etcd/],
    [
      'e.service',
      '[Service]\nExecStart=/e --name %H',
      /--name to %H, which is known only at run time/,
      /[Gg]ive --name/,
    ],
    [
      'f.service',
      '[Service]\nExecStart=/e --name m --data-dir=${D}',
      /--data-dir to \$\{D\}, which is known only/,
      /./,
    ],
    ['g', 'ETCD_NAME=$(hostname)\n', /known only at run time/, /[Gg]ive --name/],
    [
      'h.service',
      '[Service]\nEnvironmentFile=-/etc/default/etcd\nExecStart=/usr/bin/etcd $DAEMON_ARGS',
      /settings from \/etc\/default\/etcd/,
      /--from \/etc\/default\/etcd/,
    ],
    [
      'i',
      'DAEMON_ARGS=--config-file /etc/etcd.yml',
      /--config-file, with which etcd ignores/,
      /--from \/etc\/etcd\.yml/,
    ],
    ['j', 'DAEMON_ARGS=--name m --data-dir m.etcd', /the relative directory m\.etcd/, /[Gg]ive --name/],
    ['k.yaml', 'name: m\ndata-dir: "/d\\u001b[2J"', /has control characters/, /absolute path/],
    ['l', 'A=b', /has no name/, /\/etc\/default\/etcd/],
    ['m.yaml', '[1, 2]', /has no name/, /./],
  ];
  for (const [name, text, message, hint] of files) {
    const path = join(dir, name);
    await writeFile(path, text);
    await t.rejects(readMemberConfig(path), { name: 'UsageError', message, hint }, `${name}: ${message}`);
  }
  await t.rejects(readMemberConfig(join(dir, 'none')), { message: /none does not exist/, hint: /mount/ });
  await t.rejects(readMemberConfig(dir), { message: /not a regular file/ });
  const unit = join(dir, 'unit-without-an-ending');
  await writeFile(unit, '[Service]\nExecStart=/usr/bin/etcd --name m1 --data-dir /var/lib/etcd/m1/\n');
  t.match(await readMemberConfig(unit), { name: 'm1', dataDir: '/var/lib/etcd/m1' }, 'known by what is in it');
});
