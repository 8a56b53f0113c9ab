"""Do pods reach the operator, by its Service and with its certificate? `helm test` runs this.

As a training pod reports its progress, but without a token: to be refused is to have reached it.
"""

import http.client
import os
import ssl
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

URL, CERTIFICATES = urlsplit(os.environ["OPERATOR_URL"]), Path(os.environ["CERTIFICATES"])
PATIENCE_SECONDS = float(os.environ["PATIENCE_SECONDS"])
REPORT = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/helm-test/trainjobs/helm-test/status"


def answer() -> int:
    trusted = CERTIFICATES / "ca.crt"
    authority = trusted if trusted.exists() else CERTIFICATES / "tls.crt"
    context = ssl.create_default_context(cafile=str(authority))
    assert URL.hostname is not None
    connection = http.client.HTTPSConnection(URL.hostname, URL.port, timeout=10, context=context)
    try:
        connection.request("POST", REPORT, body=b"{}")
        return connection.getresponse().status
    finally:
        connection.close()


deadline = time.monotonic() + PATIENCE_SECONDS
while True:
    try:
        status = answer()
        break
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() > deadline:
            sys.exit(
                f"The operator cannot be reached at {URL.geturl()}: {error}. Runs would train, but "
                "not tell how far they are. Look at its pod, at DNS and at NetworkPolicies."
            )
    time.sleep(1)
if status != 401:
    sys.exit(f"What answers at {URL.geturl()} is not the operator: HTTP {status} in place of 401.")
print(f"The operator answers at {URL.geturl()}, with the certificate that training pods trust.")
