import { ModelRejected, PoolClient } from "pool-service-client";

const pool = await PoolClient.connectOrStart(); // POOL_SERVICE_ADDRESS, else your own service
try {
  const { server } = await pool.ensure(process.argv[2] ?? "", { timeoutMs: 120_000 });
  console.log(server.endpoint, server.servedModelName);
} catch (error) {
  if (!(error instanceof ModelRejected)) throw error;
  console.error(error.message, ...error.lastLines);
} finally {
  pool.close();
}
