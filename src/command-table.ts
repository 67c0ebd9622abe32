import {
  ALLOW_SAME_ACCOUNT,
  ENCRYPTION_CONFIG,
  FROM_COPY,
  IDENTITY,
  KEEP_NOTE,
  NEWEST,
  type Options,
  SKIP_HASH_CHECK,
} from './command-options.ts';
import type { Arguments, Context, Outcome } from './commands/command.ts';
import type { Needs } from './config/config.ts';
import { ExitCode } from './errors.ts';
import { IMPORT } from './import-command.ts';
import { KEEP, RELEASE } from './mark-commands.ts';
import { BROWSE_OPTIONS, EXTRACT_OPTIONS, INSPECT_OPTIONS } from './object-options.ts';
import { REPORT } from './report-command.ts';
import { UNTIL_RELEASED } from './retention/mark-snapshot.ts';
import { RESTORE_OPTIONS } from './restore-options.ts';
import { isFileName } from './snapshot/operand-name.ts';

/* Every command and option: the parser of the command line, the help and the tables of the docs all use this table. */

export interface Command {
  /** Each command is loaded only when it runs: loading all of them takes longer than a small backup. */
  readonly load: () => Promise<(context: Context, args: Arguments) => Promise<Outcome>>;
  readonly needs: (args: Arguments) => Needs;
  /** Its arguments; those in brackets are optional. */
  readonly operands: readonly string[];
  /** One line for the list of commands. */
  readonly summary: string;
  /** One paragraph for its own help. */
  readonly about: string;
  readonly options?: Options;
  /** What follows `etcd-snapshot` on the command line. */
  readonly examples: readonly string[];
  /** Its exit codes in addition to those of every command. */
  readonly exitCodes: readonly number[];
}

/** A restore is not limited by the time of a CronJob's run. */
const RESTORE_SECONDS = 86_400;

function areFiles({ operands }: Arguments): boolean {
  return operands.length > 0 && operands.every(isFileName);
}

function needsOfReading(args: Arguments): Needs {
  return { etcd: false, storage: !areFiles(args) };
}

function needsOfRestore(args: Arguments): Needs {
  const { options } = args;
  const needsNothing = options['swap'] === true || (options['plan'] === true && options['from-plan'] !== undefined);
  return {
    etcd: needsNothing || options['download'] !== undefined || options['force'] === true ? false : 'if set',
    storage: !needsNothing && !areFiles(args),
    timeout: RESTORE_SECONDS,
  };
}

/** A drill of a file or a copy is not reported: it proves nothing about the snapshots in the first place. */
function needsOfDrill(args: Arguments): Needs {
  const needs = needsOfReading(args);
  const isOfFirstPlace = needs.storage === true && args.options['from-copy'] !== true;
  return isOfFirstPlace ? { ...needs, reports: 'drill' } : needs;
}

const { incomplete, etcd, verification, storage, noSuchSnapshot, unsafe } = ExitCode;

export const COMMANDS: Readonly<Record<string, Command>> = {
  backup: {
    load: async () => (await import('./commands/backup.ts')).backup,
    needs: ({ options }) => ({
      ...{ etcd: true, storage: true, writes: true, readsBundle: true, reports: 'backup', copies: 'after backup' },
      allowsSameAccount: options['allow-same-account'] === true,
    }),
    operands: [],
    summary: 'take, verify and store a snapshot, apply retention (default)',
    about:
      'Streams a snapshot from a healthy member, verifies every page while it streams, stores the snapshot in the container, reads it back and applies retention. It becomes visible in the container only after it is verified. A failed run deletes nothing.',
    options: {
      keep: {
        type: 'string',
        value: '90d',
        alone: UNTIL_RELEASED,
        help: 'keep the snapshot, whatever the retention rules say, until it is released, or for a time or until a date as with keep --until',
      },
      ...KEEP_NOTE,
      ...ALLOW_SAME_ACCOUNT,
    },
    examples: ['backup', 'backup --env-file secrets.env --json', 'backup --keep=90d --note "before 1.36"'],
    exitCodes: [incomplete, etcd, verification, storage],
  },
  list: {
    load: async () => (await import('./commands/list.ts')).list,
    needs: () => ({ etcd: false, storage: true }),
    operands: [],
    summary: 'show the snapshots in the container, newest first',
    about:
      'Lists the blobs under the prefix, newest first, and what retention would do with each. Blobs that are not snapshots of this tool are marked.',
    options: FROM_COPY,
    examples: ['list', 'list --json'],
    exitCodes: [storage],
  },
  report: REPORT,
  prune: {
    load: async () => (await import('./commands/prune.ts')).prune,
    needs: () => ({ etcd: false, storage: true }),
    operands: [],
    summary: 'apply retention without a backup',
    about:
      'Deletes the snapshots that no SNAPSHOT_KEEP_… rule keeps, and shows the reason for each one. The newest snapshot of the cluster is always kept. If it is suspicious compared with earlier ones, nothing is deleted.',
    options: {
      'dry-run': { type: 'boolean', help: 'show what would be deleted, and delete nothing' },
      'cluster-id': {
        type: 'string',
        multiple: true,
        value: 'ID',
        help: 'an earlier id of this cluster, from before a restore (can be repeated)',
      },
      ...FROM_COPY,
    },
    examples: ['prune --dry-run'],
    exitCodes: [incomplete, storage],
  },
  keep: KEEP,
  release: RELEASE,
  verify: {
    load: async () => (await import('./commands/verify.ts')).verify,
    needs: needsOfReading,
    operands: ['NAME|FILE'],
    summary: 'check every page of a stored snapshot or of a local file',
    about:
      'Checks the sha256, both meta pages, every page, the order of the keys and the buckets, and shows the same table as etcdctl snapshot status. Changes nothing.',
    options: { ...NEWEST, ...IDENTITY, ...SKIP_HASH_CHECK, ...FROM_COPY },
    examples: ['verify kubernetes-etcd-snapshot_20260102_030405.db', 'verify ./snapshot.db'],
    exitCodes: [verification, storage, noSuchSnapshot],
  },
  inspect: {
    load: async () => (await import('./commands/inspect.ts')).inspect,
    needs: needsOfReading,
    operands: ['NAME|FILE', '[NAME|FILE]'],
    summary: 'show what is in a snapshot, or what differs between two',
    about:
      'Verifies a snapshot and shows its cluster, members, revision and the keys of each resource. With two snapshots it shows which keys were added, removed and changed. Values are shown only with --get, and with -o diff those of objects other than Secrets.',
    options: { ...INSPECT_OPTIONS, ...FROM_COPY },
    examples: ['inspect ./snapshot.db', 'inspect ./snapshot.db --get /registry/secrets/shop/db -o yaml'],
    exitCodes: [incomplete, verification, storage, noSuchSnapshot],
  },
  extract: {
    load: async () => (await import('./commands/extract.ts')).extract,
    needs: needsOfReading,
    operands: ['NAME|FILE'],
    summary: 'write objects of Kubernetes as YAML, ready for kubectl apply',
    about:
      'Verifies a snapshot and writes its objects as YAML, one file each, and a kustomization: kubectl apply creates them again. What a cluster sets itself is removed, such as uid and status. Objects that a controller makes again are left out, unless their type is asked for. Applies nothing.',
    options: { ...EXTRACT_OPTIONS, ...FROM_COPY },
    examples: [
      'extract ./snapshot.db --namespace shop -o shop',
      'extract ./snapshot.db --kind Secret --name "db-*" -o -',
    ],
    exitCodes: [incomplete, verification, storage, noSuchSnapshot, unsafe],
  },
  browse: {
    load: async () => (await import('./commands/browse.ts')).browse,
    needs: (args) => ({ ...needsOfReading(args), timeout: 20 * RESTORE_SECONDS }),
    operands: ['NAME|FILE'],
    summary: 'serve the objects of a snapshot to kubectl, read-only',
    about:
      'Verifies a snapshot and answers get and list on 127.0.0.1 as the API server would, until Ctrl-C: kubectl --server http://127.0.0.1:8001 get deployments -A. Everybody on this machine can read the objects, Secrets included. Changes nothing.',
    options: { ...BROWSE_OPTIONS, ...FROM_COPY },
    examples: ['browse ./snapshot.db', 'browse ./snapshot.db --port 8080'],
    exitCodes: [verification, storage, noSuchSnapshot],
  },
  bundle: {
    load: async () => (await import('./commands/bundle.ts')).bundle,
    needs: () => ({ etcd: false, storage: true }),
    operands: ['NAME'],
    summary: 'list or extract the keys that were stored with a snapshot',
    about:
      'Shows which certificates, keys and configurations SNAPSHOT_BUNDLE stored with a snapshot, or writes them into a directory. Their content is never shown.',
    options: {
      extract: { type: 'string', value: 'DIR', help: 'write them into DIR, which must be new or empty' },
      ...NEWEST,
      ...IDENTITY,
      ...FROM_COPY,
    },
    examples: ['bundle kubernetes-etcd-snapshot_20260102_030405.db.zst.age --identity key.txt --extract keys'],
    exitCodes: [verification, storage, noSuchSnapshot, unsafe],
  },
  health: {
    load: async () => (await import('./commands/health.ts')).health,
    needs: () => ({ etcd: true, storage: false }),
    operands: [],
    summary: 'show the health of every member, and the quorum',
    about:
      'Asks every member of the cluster and shows its health, role, version, size and revision, the alarms, and how many more members can fail before quorum is lost. Changes nothing.',
    examples: ['health'],
    exitCodes: [etcd, unsafe],
  },
  doctor: {
    load: async () => (await import('./commands/doctor.ts')).doctor,
    needs: () => ({
      etcd: true,
      storage: true,
      signs: true,
      readsBundle: true,
      copies: 'if set',
      allowsSameAccount: true,
    }),
    operands: [],
    summary: 'check everything that a backup and a restore will need',
    about:
      'Checks certificates, members, quorum, each permission in Azure, clocks, disk space, the files of the bundle, and the age of the newest snapshot and of the last drill. Ends with the exit code of the first check that failed. Changes nothing.',
    options: {
      'encryption-config': {
        type: 'string',
        value: 'FILE',
        help: "the API server's encryption configuration, to compare with the record of the newest snapshot",
      },
    },
    examples: ['doctor'],
    exitCodes: [incomplete, etcd, verification, storage, unsafe],
  },
  'replace-member': {
    load: async () => (await import('./commands/replace-member.ts')).replaceMember,
    needs: ({ options }) => ({
      ...{ etcd: true, writes: true, readsBundle: options['no-backup'] !== true },
      storage: options['no-backup'] === true ? false : 'if set',
    }),
    operands: ['ID|NAME'],
    summary: 'remove a failed member and add its replacement, step by step',
    about:
      'Takes a backup, removes a failed member, adds its replacement as a learner, prints the settings for the etcd of the replacement, and promotes it when it has caught up. Refuses any step that would lose quorum. Run it again to continue after an interruption.',
    options: {
      name: { type: 'string', value: 'NEW', help: 'name of the new member (required)' },
      'peer-urls': { type: 'string', value: 'URL', help: 'its peer URL (required)' },
      'client-urls': { type: 'string', value: 'URL', help: 'its client URL, for the printed settings' },
      'data-dir': {
        type: 'string',
        value: 'DIR',
        help: 'its data directory (default: NEW in the data directory of the layout)',
      },
      layout: { type: 'string', value: 'LAYOUT', help: 'aks-engine or kubeadm (default: detected on this host)' },
      voter: { type: 'boolean', help: 'add it as a voting member directly, not as a learner first' },
      wait: { type: 'boolean', help: 'wait until the new member is started, healthy and promoted' },
      'dry-run': { type: 'boolean', help: 'show what would be done, and change nothing' },
      yes: { type: 'boolean', help: 'do not ask before each step' },
      'no-backup': { type: 'boolean', help: 'do not take a backup first' },
    },
    examples: ['replace-member m3 --name m3b --peer-urls https://10.0.0.7:2380'],
    exitCodes: [etcd, verification, storage, unsafe],
  },
  restore: {
    load: async () => (await import('./commands/restore.ts')).restore,
    needs: needsOfRestore,
    operands: ['[NAME|FILE]'],
    summary: "restore one member's data, or plan the restore of all members",
    about:
      'Downloads and verifies a snapshot (the newest, if none is named) and passes it to etcdutl or etcdctl, which creates the data directory of one member. Start with --plan: it prints the steps for all members and changes nothing. An interrupted download is resumed.',
    options: RESTORE_OPTIONS,
    examples: ['restore --plan', 'restore --from /etc/default/etcd', 'restore --swap --data-dir /var/lib/etcd'],
    exitCodes: [etcd, verification, storage, noSuchSnapshot, unsafe],
  },
  drill: {
    load: async () => (await import('./commands/drill.ts')).drill,
    needs: needsOfDrill,
    operands: ['[NAME|FILE]'],
    summary: 'test that a snapshot can be restored',
    about:
      'Restores a snapshot (the newest, if none is named) into a temporary directory, starts a real etcd with it that opens no port, compares revision, keys and HashKV with the snapshot, and shows how long a recovery takes. Removes its files afterwards.',
    options: {
      'temp-dir': { type: 'string', value: 'DIR', help: 'directory with space for twice the database (default: /tmp)' },
      ...IDENTITY,
      ...ENCRYPTION_CONFIG,
      ...NEWEST,
      ...SKIP_HASH_CHECK,
      ...FROM_COPY,
    },
    examples: ['drill', 'drill --temp-dir /var/tmp', 'drill --taken-before 2026-01-02T03:00:00Z'],
    exitCodes: [etcd, verification, storage, noSuchSnapshot, unsafe],
  },
  copy: {
    load: async () => (await import('./commands/copy.ts')).copy,
    needs: ({ options }) => ({
      ...{ etcd: false, storage: true, copies: 'always', reports: 'copy', timeout: RESTORE_SECONDS },
      allowsSameAccount: options['allow-same-account'] === true,
    }),
    operands: ['[NAME...]'],
    summary: 'copy snapshots to a second place',
    about:
      'Copies the snapshots that the second place (SNAPSHOT_COPY_…) lacks, the newest first, with their bundles and records, and reads them back there. Bytes that do not match their record are not copied. Overwrites and deletes nothing. An interrupted run is continued by the next one.',
    options: ALLOW_SAME_ACCOUNT,
    examples: ['copy', 'copy kubernetes-etcd-snapshot_20260102_030405.db'],
    exitCodes: [verification, storage, noSuchSnapshot],
  },
  rewrap: {
    load: async () => (await import('./commands/rewrap.ts')).rewrap,
    needs: () => ({ etcd: false, storage: true, writes: true, timeout: RESTORE_SECONDS }),
    operands: ['NAME...'],
    summary: 'store snapshots again, encrypted for other recipients',
    about:
      'Opens each snapshot, verifies it, stores it again encrypted for the given recipients, and reads the new blob back. The old blob is not changed; if retention rules are set, retention removes it later. A snapshot that is stored for exactly these recipients already is left alone.',
    options: {
      recipients: {
        type: 'string',
        value: 'LIST',
        help: 'recipients of age, separated by commas (default: SNAPSHOT_ENCRYPTION_RECIPIENTS and SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE)',
      },
      ...IDENTITY,
    },
    examples: ['rewrap kubernetes-etcd-snapshot_20260102_030405.db.zst.age --identity identity.txt'],
    exitCodes: [verification, storage, noSuchSnapshot],
  },
  import: IMPORT,
  keygen: {
    load: async () => (await import('./commands/keygen.ts')).keygen,
    needs: () => ({ etcd: false, storage: false }),
    operands: ['DIR'],
    summary: 'make the keys for encrypted and signed snapshots',
    about:
      'Writes new keys to a directory, which is created if it does not exist: an identity and its recipient for encrypted snapshots, a signing key and its verification key for signed ones. Shows where each of them belongs. Overwrites nothing, and needs neither etcd nor Azure.',
    options: {
      'post-quantum': { type: 'boolean', help: 'make the post-quantum kind of identity and recipient (age1pq1…)' },
    },
    examples: ['keygen keys', 'keygen keys --post-quantum'],
    exitCodes: [],
  },
};

/** In the words of the help and the docs. */
export const EXIT_CODES: Readonly<Record<number, string>> = {
  0: 'done',
  1: 'unexpected error',
  2: 'usage or configuration error; nothing was done',
  3: 'done, but incomplete: retention deleted nothing or not everything, the bundle lacks files, the second copy failed, or values of a snapshot could not be read',
  10: 'etcd cannot be reached, or refused the request',
  11: 'the snapshot failed verification, or its copy is not the same',
  12: 'storage cannot be reached, or refused the request',
  13: 'no such snapshot',
  20: 'the cluster is not healthy, late or not drilled, or the step would be unsafe',
  129: 'interrupted by SIGHUP',
  130: 'interrupted by SIGINT',
  143: 'interrupted by SIGTERM',
};
