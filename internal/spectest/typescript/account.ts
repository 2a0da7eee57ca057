// What an account page does with the typed client: it changes the own credentials, branches on problem codes, and lets an
// administrator reset a password. schema.d.ts is made from openapi.yaml by openapi-typescript.
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./schema";

type Problem = components["schemas"]["Problem"];
type Change = operations["changeMyCredentials"]["requestBody"]["content"]["application/merge-patch+json"];
type Reset = operations["resetPassword"]["responses"]["200"]["content"]["application/json"];

export function connect(baseUrl: string, token: () => string) {
  const client = createClient<paths>({ baseUrl });
  client.use({
    onRequest({ request }) {
      request.headers.set("Authorization", `Bearer ${token()}`);
      return request;
    },
  });
  return client;
}

type Client = ReturnType<typeof connect>;

export interface Changed {
  username: string;
  etag: string | null;
  tokens: { access: string; refresh: string } | null;
}

// changeCredentials changes any of username, email and password at once, if they still are what etag names.
export async function changeCredentials(client: Client, change: Change, etag: string): Promise<Changed | string[]> {
  const { data, error, response } = await client.PATCH("/users/me/credentials", {
    params: { header: { "If-Match": etag } },
    body: change,
    headers: { "Content-Type": "application/merge-patch+json" },
  });
  if (error) {
    return explain(error, response.headers.get("Retry-After"));
  }
  const tokens = data.access_token && data.refresh_token ? { access: data.access_token, refresh: data.refresh_token } : null;
  return { username: data.username, etag: response.headers.get("ETag"), tokens };
}

// explain says what to tell the user.
export function explain(problem: Problem, retryAfter: string | null): string[] {
  switch (problem.code) {
    case "policy_violation":
    case "validation_failed":
      return (problem.errors ?? []).map((field) => `${field.pointer.slice(1)}: ${field.detail}`);
    case "wrong_current_password":
      return ["The current password is not right."];
    case "identifier_taken":
      return ["That name is taken. Choose another one."];
    case "precondition_failed":
    case "conflict":
      return ["Your credentials were changed meanwhile. Look at them and try again."];
    case "must_change_password":
      return ["Choose a new password first."];
    case "throttled":
    case "overloaded":
    case "unavailable":
      return [`Try again in ${retryAfter ?? "a few"} seconds.`];
    default:
      return [problem.detail ?? problem.title];
  }
}

// resetPassword gives a user a temporary password, and answers it with the time until which it can be used.
export async function resetPassword(client: Client, userId: string, reason: string): Promise<Reset | string[]> {
  const { data, error, response } = await client.POST("/admin/users/{id}/password-reset", {
    params: { path: { id: userId } },
    body: { method: "temporary", reason },
  });
  return error ? explain(error, response.headers.get("Retry-After")) : data;
}

// namesOf answers who may be managed, page by page.
export async function* namesOf(client: Client, team: string): AsyncGenerator<string> {
  let cursor: string | null | undefined;
  do {
    const { data, error } = await client.GET("/admin/users", { params: { query: { team, limit: 200, ...(cursor ? { cursor } : {}) } } });
    if (error) {
      throw new Error(error.code);
    }
    yield* data.items.map((user) => user.username);
    cursor = data.next_cursor;
  } while (cursor);
}
