"""moto as STS, with its own verification of signatures on. All names and keys are test data.

Prints a line of JSON: its port, the access key id and the secret access key of a user who may assume the role that it names too. Ends with its standard
input.
"""

import json
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
port = server._server.server_port
endpoint = f"http://127.0.0.1:{port}"
for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
    os.environ[name] = "test"
iam = boto3.client("iam", region_name="us-east-1", endpoint_url=endpoint)
iam.create_user(UserName="test")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="test", PolicyName="all", PolicyDocument=json.dumps(policy))
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
role = iam.create_role(RoleName="app", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
key = iam.create_access_key(UserName="test")["AccessKey"]
# From here on, each call needs a right signature.
print(json.dumps({"port": port, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"], "role": role}), flush=True)
sys.stdin.read()
server.stop()
