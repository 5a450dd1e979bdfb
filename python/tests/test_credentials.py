"""The classes with a key in a TPM, the program, and Entra's token endpoint for tests: client/tests/python.rs makes all of these, and runs this.

The folder holds rsa.pem and its certificate; $ENTRA is the endpoint, $EKM_OTP_CLIENT the program, $TPM2TOOLS_TCTI the TPM. All names and keys are test data.
"""

import ast
import base64
import json
import os
import pathlib
import stat
import subprocess
import time
import unittest
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor

from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.identity import ChainedTokenCredential
from google.auth.transport.requests import Request

import ekm_otp
from ekm_otp.azure.azurecredentials import AzureCredentials
from ekm_otp.client import ClientError, Key
from ekm_otp.gcp.gcpcredentials import GCPCredentials
from ekm_otp.policy import PCRPolicy, PolicyEval

STORAGE, VAULT = "https://storage.azure.com/.default", "https://vault.azure.net/.default"
TENANT, OTHER = "45243fbe-b73f-4f7d-8213-a104a99e428e", "00000000-0000-0000-0000-000000000000"
REFUSAL = [401, {"error": "invalid_client", "error_description": "AADSTS7000112: Application is disabled."}]


def script(name, text):
    path = pathlib.Path(name).absolute()
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(stat.S_IRWXU)
    return str(path)


def spy(name):
    """The program, each call of which is a line in a file."""
    pathlib.Path(f"{name}.calls").write_text("")
    return script(name, f'echo "$@" >> {name}.calls\nexec "$EKM_OTP_CLIENT" "$@"\n')


def calls(name):
    return len(pathlib.Path(f"{name}.calls").read_text().splitlines())


def key(binary, timeout=30):
    return Key(None, "rsa.pem", None, None, None, binary, timeout, [])


class TheProgram(unittest.TestCase):
    def fails(self, binary, timeout=30):
        with self.assertRaises(ClientError) as raised:
            key(binary, timeout).run(["azure", "token"])
        return raised.exception.exit_code, str(raised.exception)

    def test_one_that_hangs_is_asked_to_end_before_it_is_killed(self):
        began = time.monotonic()
        soft = script("soft", "trap 'echo ended > soft.ended; exit 143' TERM\nsleep 60 & wait\n")
        self.assertEqual(self.fails(soft, 2), (69, "ekm-otp-client has not answered within 2 s"))
        self.assertEqual(pathlib.Path("soft.ended").read_text(), "ended\n")
        deaf = script("deaf", "trap '' TERM\necho $$ > deaf.pid\nwhile :; do sleep 0.1; done\n")
        self.assertEqual(self.fails(deaf, 2)[0], 69)
        with self.assertRaises(ProcessLookupError):
            os.kill(int(pathlib.Path("deaf.pid").read_text()), 0)
        self.assertLess(time.monotonic() - began, 30)

    def test_what_it_prints_is_a_json_object_or_an_error_that_does_not_show_it(self):
        for text in ["[1, 2]", "secret-test-data", '{"a": 1} secret-test-data', ""]:
            code, told = self.fails(script("garbage", f"echo '{text}'\n"))
            self.assertEqual(code, 1)
            self.assertNotIn("secret-test-data", told)

    def test_its_last_line_and_exit_code_are_the_error_s(self):
        self.assertEqual(self.fails(script("told", "echo 'a warning' >&2; echo 'what is wrong' >&2; exit 77\n")), (77, "what is wrong"))
        self.assertEqual(self.fails(script("silent", "exit 3\n")), (3, "ekm-otp-client ended with 3"))

    def test_what_cannot_be_is_refused_before_it_is_run(self):
        with self.assertRaises(ValueError):
            key(None, timeout=0)
        with self.assertRaises(ValueError):
            Key(None, "", None, None, None, None, 30, [])
        with self.assertRaises(TypeError):
            Key(None, "rsa.pem", None, None, {"policy": []}, None, 30, [])


class Policies(unittest.TestCase):
    def test_they_are_where_the_original_has_them(self):
        from ekm_otp.policy.pcr import PCRPolicy as same
        from ekm_otp.policy.policy import PolicyEval as base

        self.assertIs(same, PCRPolicy)
        self.assertTrue(base is PolicyEval and issubclass(PCRPolicy, PolicyEval))
        with self.assertRaises(TypeError):
            PCRPolicy(policy="sha256:23")

    def test_a_callback_that_is_never_called_is_warned_of(self):
        class Own(PolicyEval):
            def policy_callback(self, ectx):
                raise AssertionError("it is called")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Own({"policy": []})
            PCRPolicy({"policy": []})
        self.assertEqual([str(warning.message).split(":")[0] for warning in caught], ["policy_callback is not called"])

    def test_it_reaches_the_program_in_a_file_for_its_eyes_only(self):
        watch = script("watch", 'while [ "$1" != --policy ]; do shift; done\nstat -c %a "$(dirname "$2")" >&2; printf \'{"got": %s}\' "$(cat "$2")"\n')
        policy = {"description": "x", "policy": [{"type": "POLICYAUTHVALUE"}]}
        made = Key(None, "rsa.pem", None, None, PolicyEval(policy), watch, 30, []).run(["gcp", "jwt"])
        self.assertEqual(made, {"got": policy})


class Google(unittest.TestCase):
    def test_threads_share_a_token_and_a_refresh_makes_a_new_one(self):
        credentials = GCPCredentials(keyfile="rsa.pem", email="sa@project.iam.gserviceaccount.com", keyid="k1", binary=spy("google"))

        def header(_):
            headers = {}
            credentials.before_request(Request(), "GET", "https://storage.googleapis.com/", headers)
            return headers["authorization"]

        with ThreadPoolExecutor(8) as threads:
            self.assertEqual(len(set(threads.map(header, range(16)))), 1)
        self.assertEqual(calls("google"), 1)
        first = base64.urlsafe_b64decode(credentials.token.split(".")[0] + "==")
        self.assertEqual(json.loads(first)["kid"], "k1")
        # As google-auth does after a 401.
        credentials.refresh(Request())
        self.assertEqual(calls("google"), 2)


class Azure(unittest.TestCase):
    def setUp(self):
        self.control(fail=[], delay=0, lifetime=3599)

    def credentials(self, **more):
        given = dict(keyfile="rsa.pem", tenant_id=TENANT, client_id="cffeaee2-5617-4784-8a4b-b647efd676e1", certificate_path="rsa.direct.crt")
        return AzureCredentials(**given, authority=os.environ["ENTRA"], **more)

    def control(self, **what):
        urllib.request.urlopen(os.environ["ENTRA"] + "/control", json.dumps(what).encode())

    def test_azure_s_own_pipeline_and_chain_take_it(self):
        credentials = self.credentials()
        request = PipelineRequest(HttpRequest("GET", "https://account.blob.core.windows.net/"), PipelineContext(None))
        BearerTokenCredentialPolicy(credentials, STORAGE).on_request(request)
        header = request.http_request.headers["Authorization"]
        self.assertEqual(header, f"Bearer {credentials.get_token(STORAGE).token}")
        chained = ChainedTokenCredential(credentials).get_token(STORAGE)
        self.assertEqual(f"Bearer {chained.token}", header)

    def test_each_set_of_scopes_has_a_token_of_its_own_until_they_are_forgotten(self):
        with self.credentials(binary=spy("azure")) as credentials:
            one, other = credentials.get_token(STORAGE), credentials.get_token(VAULT)
            self.assertNotEqual(one.token, other.token)
            self.assertEqual(credentials.get_token(STORAGE), one)
            self.assertEqual(credentials.get_token_info(VAULT, options={"enable_cae": True}).token, other.token)
            self.assertEqual(calls("azure"), 2)
        self.assertNotEqual(credentials.get_token(STORAGE).token, one.token)

    def test_claims_want_a_new_token_and_another_tenant_is_refused(self):
        credentials = self.credentials()
        held = credentials.get_token(STORAGE, tenant_id=TENANT.upper())
        self.assertNotEqual(credentials.get_token_info(STORAGE, options={"claims": "{}"}).token, held.token)
        with self.assertRaisesRegex(ClientAuthenticationError, OTHER):
            credentials.get_token(STORAGE, tenant_id=OTHER)
        with self.assertRaises(ValueError):
            credentials.get_token()

    def test_a_refusal_is_told_unless_the_token_that_is_held_is_good_still(self):
        credentials = self.credentials()
        self.control(fail=[REFUSAL])
        with self.assertRaisesRegex(ClientAuthenticationError, "AADSTS7000112"):
            credentials.get_token(STORAGE)
        # Of 200 seconds: Azure's clients want another from 5 minutes before the end on.
        self.control(lifetime=200)
        held = credentials.get_token(STORAGE)
        self.control(fail=[REFUSAL])
        self.assertEqual(credentials.get_token(STORAGE), held)
        self.control(fail=[REFUSAL])
        with self.assertRaises(ClientAuthenticationError):
            credentials.get_token(STORAGE, claims="{}")
        self.control(lifetime=2)
        credentials.get_token(VAULT)
        time.sleep(2.5)
        self.control(fail=[REFUSAL])
        with self.assertRaises(ClientAuthenticationError):
            credentials.get_token(VAULT)

    def test_what_it_waited_for_is_told_by_the_program(self):
        self.control(delay=30)
        with self.assertRaisesRegex(ClientAuthenticationError, "Entra ID"):
            self.credentials(timeout=10).get_token(STORAGE)


class ThePackage(unittest.TestCase):
    def test_it_is_python_3_9(self):
        files = list(pathlib.Path(ekm_otp.__file__).parent.rglob("*.py"))
        self.assertGreater(len(files), 8)
        for file in files:
            ast.parse(file.read_text(), str(file), feature_version=(3, 9))

    def test_it_needs_no_library_but_that_of_the_cloud_that_is_used(self):
        code = "import sys, ekm_otp, ekm_otp.client, ekm_otp.policy; print([name for name in ('boto3', 'google.auth', 'azure.core') if name in sys.modules])"
        ran = subprocess.run([os.sys.executable, "-B", "-c", code], check=True, capture_output=True, text=True)
        self.assertEqual(ran.stdout.strip(), "[]")


if __name__ == "__main__":
    unittest.main()
