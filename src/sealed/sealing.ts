import type { SealingConfig } from '../config/config.ts';
import type { Warnings } from '../log.ts';
import { type Encoding, isEncrypted } from '../snapshot/snapshot-name.ts';
import type { Recipients } from './recipients.ts';
import { Sealer, type Sink } from './sealer.ts';
import { type Expected, unseal } from './unseal.ts';

/** How a run seals its snapshots, and opens what it has sealed. */
export class Sealing {
  readonly encoding: Encoding;
  readonly #recipients: Recipients | undefined;

  private constructor(encoding: Encoding, recipients: Recipients | undefined) {
    this.encoding = encoding;
    this.#recipients = recipients;
  }

  /** @throws UsageError when a recipient is invalid, or there is none */
  static async prepare(config: SealingConfig, warnings: Warnings): Promise<Sealing> {
    const { encoding } = config;
    if (!isEncrypted(encoding)) return new Sealing(encoding, undefined);
    const { prepareRecipients } = await import('./recipients.ts');
    return new Sealing(encoding, await prepareRecipients(config, warnings));
  }

  /** Fingerprints of those who can open what is sealed; none where it is not encrypted. */
  get recipients(): readonly string[] {
    return this.#recipients?.fingerprints ?? [];
  }

  /** For the same recipients. */
  withEncoding(encoding: Encoding): Sealing {
    return new Sealing(encoding, this.#recipients);
  }

  /** Begins to seal one snapshot into an upload. @param encoding another one for a bundle */
  async start(sink: Sink, encoding = this.encoding): Promise<Sealer> {
    if (this.#recipients === undefined) return new Sealer(encoding, undefined, sink);
    const { createHeader } = await import('./age-header.ts');
    const { all, fingerprints } = this.#recipients;
    return new Sealer(encoding, { ...(await createHeader(all)), fingerprints }, sink);
  }

  /** The bytes of the file of a snapshot that this run has sealed. Throws what `unseal` throws. */
  open(
    stored: AsyncIterable<Uint8Array>,
    expected: Omit<Expected, 'encoding' | 'identities'>,
    encoding = this.encoding,
  ): AsyncIterable<Buffer> {
    const identities = this.#recipients === undefined ? [] : [this.#recipients.own];
    return unseal(stored, { ...expected, encoding, identities });
  }
}
