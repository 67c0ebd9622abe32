export function scaleReport(): string {
  return '';
}
