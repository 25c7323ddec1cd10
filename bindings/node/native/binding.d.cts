export const addon: unknown;
export const problem: unknown;
