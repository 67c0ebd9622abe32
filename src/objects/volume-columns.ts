import { type Cell, type Cells, isDeleted, or, scalar, text } from './cells.ts';
import { type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* What kubectl shows of volumes and their claims. */

export const CLAIM_CELLS: Cells = {
  Status: volumeStatus,
  Volume: text('spec', 'volumeName'),
  Capacity: ifBound((claim) => quantity(claim, 'status')),
  'Access Modes': ifBound((claim) => accessModes(claim, 'status')),
  StorageClass: storageClass,
  VolumeAttributesClass: or('<unset>', text('spec', 'volumeAttributesClassName')),
};

export const VOLUME_CELLS: Cells = {
  Capacity: (volume) => quantity(volume, 'spec'),
  'Access Modes': (volume) => accessModes(volume, 'spec'),
  'Reclaim Policy': text('spec', 'persistentVolumeReclaimPolicy'),
  Status: volumeStatus,
  Claim: claimOf,
  StorageClass: storageClass,
  VolumeAttributesClass: or('<unset>', text('spec', 'volumeAttributesClassName')),
  Reason: text('status', 'reason'),
};

/** With `-o wide`, for both. */
export const VOLUME_MODE: Cells = { VolumeMode: or('<unset>', text('spec', 'volumeMode')) };

function volumeStatus(object: JsonObject): string {
  return isDeleted(object) ? 'Terminating' : textAt(object, 'status', 'phase');
}

function ifBound(cell: (claim: JsonObject) => string): Cell {
  return (claim) => (textAt(claim, 'spec', 'volumeName') === '' ? '' : cell(claim));
}

/** The storage of a volume or a claim. */
function quantity(object: JsonObject, part: 'spec' | 'status'): string {
  return textAt(object, part, 'capacity', 'storage') || '0';
}

const ACCESS_MODES = { ReadWriteOnce: 'RWO', ReadOnlyMany: 'ROX', ReadWriteMany: 'RWX', ReadWriteOncePod: 'RWOP' };

function accessModes(object: JsonObject, part: 'spec' | 'status'): string {
  const modes = listAt(object, part, 'accessModes');
  return Object.entries(ACCESS_MODES)
    .flatMap(([mode, short]) => (modes.includes(mode) ? short : []))
    .join(',');
}

/** The annotation is older than the field, and still counts. */
function storageClass(object: JsonObject): string {
  const old = valueAt(object, 'metadata', 'annotations', 'volume.beta.kubernetes.io/storage-class');
  return scalar(old ?? valueAt(object, 'spec', 'storageClassName'));
}

function claimOf(volume: JsonObject): string {
  const claim = valueAt(volume, 'spec', 'claimRef');
  return claim === undefined ? '' : `${textAt(claim, 'namespace')}/${textAt(claim, 'name')}`;
}
