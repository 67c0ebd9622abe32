/** What a SAS token is going to be used for. */
export interface SasUse {
  readonly endpoint: string;
  readonly writes: boolean;
  readonly now: Date;
}

/**
 * What speaks against a SAS token by its own words, each completing "SNAPSHOT_AZURE_SAS_TOKEN …". The rest only Azure knows:
 * whether the signature is right, and what a stored access policy says (specification: rights; https-only tokens).
 */
export function sasFaults(token: string, { endpoint, writes, now }: SasUse): string[] {
  if (token === '') return [];
  const fields = new URLSearchParams(token);
  const faults: string[] = [];
  if (!fields.has('sig') || !fields.has('sv') || token.includes('://')) {
    return ['must be a SAS token as the portal shows it, without a URL before it'];
  }
  const expiry = dateOf(fields.get('se'));
  if (expiry !== undefined && expiry <= now) faults.push(`expired on ${expiry.toISOString()}`);
  const start = dateOf(fields.get('st'));
  if (start !== undefined && start > now) faults.push(`is not valid before ${start.toISOString()}`);
  const allows = (field: string, letters: RegExp): boolean => {
    const value = fields.get(field);
    return value === null || letters.test(value);
  };
  // A token for an account names services and kinds of resource; sr=d is a directory, and so a prefix.
  if (!allows('sr', /^[cd]$/) || !allows('ss', /b/) || !allows('srt', /o/)) {
    faults.push('must be for a container, or for the blob service of the account with its objects');
  }
  if (writes && !allows('sp', /[cw]/)) faults.push('gives no right to write (w) or create (c)');
  if (fields.get('spr') === 'https' && endpoint.startsWith('http:')) {
    faults.push('allows https only, but the endpoint is http');
  }
  return faults;
}

function dateOf(value: string | null): Date | undefined {
  const date = new Date(value ?? '');
  return Number.isNaN(date.getTime()) ? undefined : date;
}
