"""What one set of session credentials costs: `aws process` with the secret in a software TPM, next to boto3 doing the same with the plaintext secret.

Runs both in turn against testdata/aws/sts.py (started here) and prints medians and ratios of wall time and CPU. By hand:
  cost.py CLIENT KEYFILE [ROUNDS]        (TPM2TOOLS_TCTI names the TPM; the key is that of the tests' user)
"""

import os
import resource
import statistics
import subprocess
import sys
import time

client, key = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 21
here = os.path.dirname(os.path.abspath(__file__))
sts = subprocess.Popen([sys.executable, f"{here}/sts.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
url = f"http://127.0.0.1:{sts.stdout.readline().strip()}"

BOTO3 = """
import boto3, json, sys
sts = boto3.client("sts", region_name="us-east-1", endpoint_url=sys.argv[1])
print(json.dumps(sts.get_session_token(DurationSeconds=3600)["Credentials"], default=str))
"""
process = [client, "aws", "process", "--aws-access-key-id", "AKIATESTTESTTESTTEST", "--key", key, "--endpoint", url]
runs = {
    "aws process": process,
    "aws process --cache": [*process, "--cache"],
    "boto3, plaintext secret": [sys.executable, "-c", BOTO3, url],
}
environment = os.environ | {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "test/data/only+0123456789abcdefghijklmno",  # test data
}
measured = {name: [] for name in runs}
for round in range(rounds + 1):
    for name, command in runs.items():
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if round:  # the first fills caches
            measured[name].append((wall, cpu))
base = measured["boto3, plaintext secret"]
for name, values in measured.items():
    wall, cpu = (statistics.median(value[i] for value in values) for i in (0, 1))
    ratios = [statistics.median(one[i] / other[i] for one, other in zip(values, base)) for i in (0, 1)]
    print(f"{name:24} wall {wall * 1000:7.1f} ms ({ratios[0]:.3f} of boto3's), CPU {cpu * 1000:7.1f} ms ({ratios[1]:.3f})")
sts.kill()
