import type { Rule } from '../reader.ts';

export const ACCOUNT_RULE: Rule = {
  pattern: /^[a-z0-9]{3,24}$/,
  demand: 'must be 3 to 24 lower-case letters and digits',
};
export const KEY_RULE: Rule = {
  pattern: /^[A-Za-z0-9+/]{86}==$/,
  demand: 'must be the base64 text of 64 bytes, as the portal shows it (88 characters)',
};
export const CONTAINER_RULE: Rule = {
  pattern: /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/,
  demand: 'must be 3 to 63 lower-case letters, digits and single hyphens inside',
};
/** Of an application or a tenant; a tenant may also be named by its domain. */
export const DIRECTORY_ID_RULE: Rule = {
  pattern: /^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9.-]*$/,
  demand: 'must be an id such as the example',
};
