"""The first example of the README: python ensure.py MODEL."""

import sys

from pool_service_client import ModelRejected, PoolClient

with PoolClient.connect_or_start() as pool:  # POOL_SERVICE_ADDRESS, else your own service
    try:
        server = pool.ensure(sys.argv[1], timeout=120).server
    except ModelRejected as error:
        sys.exit("\n".join([str(error), *error.last_lines]))
    print(server.endpoint, server.served_model_name)
