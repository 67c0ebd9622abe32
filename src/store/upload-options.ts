import type { AccessTier } from '../config/config.ts';
import type { UploadRate } from './upload-rate.ts';

/** Which checksums go with the blob. */
export interface Checksums {
  /**
   * Whether the caller will read the blob back and compare its sha256, which finds all that MD5 sums of blocks find. With TLS, which
   * protects the line, they are omitted then: MD5 takes more processor time than anything else in an upload.
   */
  readonly isReadBack: boolean;
  /** Whether the blob has the property Content-MD5, which the service does not check, but other tools do. */
  readonly contentMd5: 'on' | 'off';
}

/** The same for all uploads to a place. */
export interface PlaceOptions {
  /** Of the blobs; undefined = that of the account. */
  readonly tier: AccessTier | undefined;
  /** Undefined = as fast as possible. */
  readonly rate: UploadRate | undefined;
}

export interface UploadOptions extends Checksums, PlaceOptions {
  /** The metadata with a signature, if it is signed. */
  readonly sign: (metadata: Record<string, string>) => Record<string, string>;
}
