// Clients that were written for other servers, each as its own documentation uses it.
// `node node_clients.mjs NAME URL` posts to URL, and prints what the caller gets as JSON:
// {"result": …}, or {"failed": …}.

const prefer = { Prefer: "respond-async" };
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function whileStatusIs202(url) {
  let response = await fetch(url, { method: "POST", headers: prefer });
  const job = response.headers.get("Location");
  while (response.status === 202) {
    await pause(Number(response.headers.get("Retry-After")));
    response = await fetch(job);
  }
  if (!response.ok) throw new Error(response.status);
  return response.json();
}

// What the SDKs that Azure generates do around createHttpPoller.
async function azureCoreLro(url) {
  const { getClient } = await import("@azure-rest/core-client");
  const { createHttpPoller } = await import("@azure/core-lro");
  const client = getClient(new URL(url).origin, { allowInsecureConnection: true });
  const asLro = (response) => ({
    flatResponse: response,
    rawResponse: { ...response, statusCode: Number(response.status), body: response.body },
  });
  const initial = await client.pathUnchecked(new URL(url).pathname).post({ headers: prefer });
  const poller = createHttpPoller(
    {
      sendInitialRequest: async () => asLro(initial),
      sendPollRequest: async (path, options) =>
        asLro(await client.pathUnchecked(path).get({ abortSignal: options?.abortSignal })),
    },
    { intervalInMs: 500 },
  );
  return (await poller.pollUntilDone()).body;
}

async function medplum(url) {
  globalThis.WebSocket ??= class {}; // Node 20 has none; it is not used here
  const { MedplumClient } = await import("@medplum/core");
  const client = new MedplumClient({ baseUrl: new URL(url).origin, fetch, maxRetries: 0 });
  return client.startAsyncRequest(url, { pollStatusOnAccepted: true, pollStatusPeriod: 500 });
}

const clients = { whileStatusIs202, azureCoreLro, medplum };
const [name, url] = process.argv.slice(2);
try {
  console.log(JSON.stringify({ result: await clients[name](url) }));
} catch (error) {
  console.log(JSON.stringify({ failed: String(error) }));
}
