import * as v from 'valibot';
import { type CataloguedBlob, signatureProblem } from './inventory.ts';
import type { MarkBlob, MarkRules } from './marks.ts';
import { Sha256 } from './record.ts';
import { formOf } from './snapshot-name.ts';

/**
 * Later forms of snapshots, which `rewrap` makes. Each is read back after it is stored, and an event says so: a run can be killed
 * between the two, and the form that it replaces must not be deleted then.
 */

const Proof = v.object({
  /** Of the form, without the prefix. */
  form: v.pipe(v.string(), v.minLength(1), v.maxLength(1024)),
  /** Of its blob. */
  storedsha256: Sha256,
});

/** The metadata of the event that says that a form was read back. @param form its name without the prefix */
export function proofFields(form: string, storedSha256: string): Record<string, string> {
  return { form, storedsha256: storedSha256 };
}

/** Which forms were read back, by name without the prefix: the sha256 of their blobs. */
export type Proofs = ReadonlyMap<string, string>;

export function readProofs(events: readonly MarkBlob[], { areSignaturesRequired }: MarkRules): Proofs {
  const trusted = events.filter(
    (event) => event.kind === 'form' && signatureProblem(event, areSignaturesRequired) === undefined,
  );
  return new Map(
    trusted.flatMap(({ fields }) => {
      const proof = v.safeParse(Proof, fields);
      return proof.success ? [[proof.output.form, proof.output.storedsha256] as const] : [];
    }),
  );
}

/** The same blob, which says so if it is a later form that was not read back. */
export function withProof<T extends CataloguedBlob>(blob: T, prefix: string, proofs: Proofs): T {
  const { name, record } = blob;
  if (record === undefined || formOf(name) === 1) return blob;
  const isProven = proofs.get(name.slice(prefix.length)) === (record.storedSha256 ?? record.sha256);
  return isProven ? blob : { notReadBackBy: 'rewrap', ...blob };
}
