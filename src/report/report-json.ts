import { keptJson } from '../snapshot/marks.ts';
import type { Cluster, Facts } from './facts.ts';
import type { Interval } from './history.ts';
import type { Report } from './summary.ts';

/** The result as JSON: times in UTC, durations in seconds, null for what is not known. */
export function reportJson(report: Report): object {
  return { ...headJson(report), clusters: report.clusters.map(clusterJson) };
}

/** The same as text, in parts: that of ten thousand clusters has tens of megabytes. */
export function* reportJsonText(report: Report): Generator<string, void, void> {
  yield `${JSON.stringify(headJson(report)).slice(0, -1)},"clusters":[`;
  for (const [index, cluster] of report.clusters.entries()) {
    yield `${index === 0 ? '' : ','}${JSON.stringify(clusterJson(cluster))}`;
  }
  yield ']}\n';
}

function headJson({ generatedAt, objective, drillWithin, otherContainers }: Report): object {
  return {
    generatedAt: iso(generatedAt),
    objectiveSeconds: objective === undefined ? null : seconds(objective),
    drillWithinSeconds: seconds(drillWithin),
    otherContainers: otherContainers ?? null,
  };
}

function clusterJson({ place, state, problems, exceptions, facts }: Cluster): object {
  const { name, account, container, prefix = '' } = place;
  const where = { name, account, container, prefix };
  return { ...where, state, problems, exceptions, reachable: facts !== undefined, ...(facts && factsJson(facts)) };
}

function factsJson(facts: Facts): object {
  const { newest, objective, trend, lastVerification, lastDrill } = facts;
  return {
    clusterId: facts.clusterId ?? null,
    newest: newest === undefined ? null : newestJson(newest),
    snapshots: facts.snapshots,
    usualSeconds: seconds(facts.usual),
    gaps: facts.gaps.map(intervalJson),
    objective:
      objective === undefined
        ? null
        : {
            seconds: seconds(objective.objective),
            held: objective.held,
            since: iso(objective.since),
            longest: intervalJson(objective.longest),
          },
    trend: trend === undefined ? null : { ...trend, since: iso(trend.since) },
    lastVerification: lastVerification === undefined ? null : { ...lastVerification, at: iso(lastVerification.at) },
    lastDrill:
      lastDrill === undefined
        ? null
        : {
            at: lastDrill.at.toISOString(),
            snapshot: lastDrill.snapshot,
            recoverySeconds: seconds(lastDrill.recoveryMs),
          },
    kept: facts.kept.map((kept) => ({ name: kept.name, ...keptJson(kept) })),
    copies: facts.copies?.missing === undefined ? null : facts.copies,
    immutability: facts.immutability,
    anomalies: facts.anomalies,
    storedBytes: facts.storedBytes,
  };
}

function newestJson(newest: NonNullable<Facts['newest']>): object {
  const { takenAt, etcdVersion, encoding } = newest;
  return { ...newest, takenAt: iso(takenAt), etcdVersion: etcdVersion ?? null, encoding: encoding ?? null };
}

function intervalJson({ from, to }: Interval): object {
  return { from: iso(from), to: iso(to), seconds: seconds(to - from) };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}

function seconds(ms: number): number {
  return ms / 1000;
}
