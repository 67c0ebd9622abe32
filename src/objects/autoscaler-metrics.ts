import { scalar } from './cells.ts';
import { type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** How many metrics are shown. */
const MAX_METRICS = 2;

/** The metrics of a HorizontalPodAutoscaler, each as `current/target`. */
export function autoscalerMetrics(autoscaler: JsonObject): string {
  const current = listAt(autoscaler, 'status', 'currentMetrics');
  const shown = listAt(autoscaler, 'spec', 'metrics').map((metric, index) => metricText(metric, current[index]));
  const cpu = valueAt(autoscaler, 'spec', 'targetCPUUtilizationPercentage');
  // Version 1 has no list.
  if (typeof cpu === 'number') {
    shown.push(
      `cpu: ${percent(valueAt(autoscaler, 'status', 'currentCPUUtilizationPercentage'), '<unknown>')}/${cpu}%`,
    );
  }
  if (shown.length === 0) return '<none>';
  const more = shown.length - MAX_METRICS;
  return shown.slice(0, MAX_METRICS).join(', ') + (more > 0 ? ` + ${more} more...` : '');
}

/** Where a metric is in its entry. */
const FIELDS: Readonly<Record<string, string>> = {
  ...{ External: 'external', Pods: 'pods', Object: 'object' },
  ...{ Resource: 'resource', ContainerResource: 'containerResource' },
};

function metricText(metric: Json, status: Json | undefined): string {
  const type = textAt(metric, 'type');
  const field = Object.hasOwn(FIELDS, type) ? FIELDS[type] : undefined;
  if (field === undefined) return '<unknown type>';
  const [target, current] = [valueAt(metric, field, 'target'), valueAt(status, field, 'current')];
  const average = valueAt(target, 'averageValue');
  const isKnown = valueAt(status, field) !== undefined;
  const ifKnown = (value: Json | undefined): string => (isKnown ? amount(value) : '<unknown>');
  if (type.endsWith('Resource')) {
    const name = textAt(metric, field, 'name');
    return average === undefined
      ? `${name}: ${percent(valueAt(current, 'averageUtilization'), '<unknown>')}/${percent(valueAt(target, 'averageUtilization'), '<auto>')}`
      : `${name}: ${ifKnown(valueAt(current, 'averageValue'))}/${amount(average)}`;
  }
  if (type === 'Pods') return `${ifKnown(valueAt(current, 'averageValue'))}/${amount(average)}`;
  return average === undefined
    ? `${ifKnown(valueAt(current, 'value'))}/${amount(valueAt(target, 'value'))}`
    : `${scalar(valueAt(current, 'averageValue')) || '<unknown>'}/${amount(average)} (avg)`;
}

/** A quantity; the API server shows one that is not set as `<nil>`. */
function amount(value: Json | undefined): string {
  return scalar(value) || '<nil>';
}

function percent(value: Json | undefined, fallback: string): string {
  return typeof value === 'number' ? `${value}%` : fallback;
}
