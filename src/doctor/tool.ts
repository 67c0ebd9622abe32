import type { MemberStatus } from '../etcd/connection.ts';
import { demandFit, findTool } from '../restore/tool.ts';
import { type Check, ok, tried, warn } from './check.ts';

/** Whether what restores is here, and fits the version that the members run. Another image can restore all the same. */
export async function checkTool(
  searchPath: readonly string[],
  statuses: readonly MemberStatus[],
  signal: AbortSignal,
): Promise<Check[]> {
  const what = 'restore tool';
  const checks = await tried(what, async () => {
    const tool = await findTool(searchPath, signal);
    const versions = [...new Set(statuses.map(({ version }) => version))];
    const [note] = versions.flatMap((version) => demandFit(tool, { data: version, members: version }) ?? []);
    return ok(what, note === undefined ? `${tool.name} can restore here.` : `${tool.name} can restore here; ${note}`);
  });
  return checks.map((check) => (check.state === 'ok' ? check : warn(what, check.finding, check.hint ?? '')));
}
