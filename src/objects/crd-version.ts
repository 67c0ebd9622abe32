import { isObject, type Json, type JsonObject, listAt, textAt } from './object-values.ts';

const OLD = 'apiextensions.k8s.io/v1beta1';

/**
 * A CustomResourceDefinition as v1: every API server stores it as v1beta1, which none serves since 1.22. Other objects are not changed.
 */
export function withServedVersion(object: JsonObject): JsonObject {
  const { apiVersion, kind, spec } = object;
  if (apiVersion !== OLD || kind !== 'CustomResourceDefinition' || !isObject(spec)) return object;
  // What v1beta1 has once for all versions, v1 has in each of them.
  const { version, versions, validation, subresources, additionalPrinterColumns, conversion, ...rest } = spec;
  const shared = { schema: validation, subresources, additionalPrinterColumns };
  const old = Array.isArray(versions) ? versions : [{ name: version ?? '', served: true, storage: true }];
  const { preserveUnknownFields, ...others } = rest;
  return {
    ...object,
    apiVersion: 'apiextensions.k8s.io/v1',
    spec: {
      ...others,
      ...(preserveUnknownFields === true && { preserveUnknownFields }),
      versions: old.map((entry) => (isObject(entry) ? versionOf(entry, shared) : entry)),
      ...(isObject(conversion) && { conversion: conversionOf(conversion) }),
    },
  };
}

function versionOf(version: JsonObject, shared: Readonly<Record<string, Json | undefined>>): JsonObject {
  const { additionalPrinterColumns: own, ...rest } = version;
  const entries = Object.entries({ ...shared, ...rest }).filter(
    (entry): entry is [string, Json] => entry[1] !== undefined,
  );
  const columns = own ?? shared['additionalPrinterColumns'];
  const known = Object.fromEntries(entries);
  delete known['additionalPrinterColumns'];
  return Array.isArray(columns) ? { ...known, additionalPrinterColumns: columns.map(columnOf) } : known;
}

function columnOf(column: Json): Json {
  if (!isObject(column)) return column;
  const { JSONPath: jsonPath, ...rest } = column;
  return jsonPath === undefined ? column : { ...rest, jsonPath };
}

function conversionOf(conversion: JsonObject): JsonObject {
  const strategy = textAt(conversion, 'strategy');
  const { webhookClientConfig: clientConfig } = conversion;
  if (strategy !== 'Webhook') return { strategy };
  const conversionReviewVersions = listAt(conversion, 'conversionReviewVersions');
  return { strategy, webhook: { ...(clientConfig !== undefined && { clientConfig }), conversionReviewVersions } };
}
