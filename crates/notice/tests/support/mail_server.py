"""A mail server to test against: aiosmtpd, with faults that can be asked for.

Usage: mail_server.py FOLDER MODE. FOLDER holds cert.pem and key.pem and gets a line of JSON per mail in
mails.jsonl. MODE is a comma-separated list of: tls, starttls, login, full (the mail is refused for now).
Recipients at refused.example are refused for good, at later.example for now. Prints its port.
"""

import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# It warns of what is asked of it here on purpose.
warnings.simplefilter("ignore")
logging.disable()
folder, modes = sys.argv[1], sys.argv[2].split(",")


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.endswith("@refused.example"):
            return "550 5.1.1 no such mailbox"
        if address.endswith("@later.example"):
            return "451 4.7.1 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if "full" in modes:
            return "452 4.3.1 disk full"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        with open(f"{folder}/mails.jsonl", "a") as out:
            json.dump({
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "tls": server.transport.get_extra_info("cipher") is not None,
                "login": getattr(session, "authenticated", False),
                "subject": mail["Subject"],
                "id": mail["Message-ID"],
                "date": mail["Date"],
                "headers": [name for name, _ in mail.items()],
                "body": mail.get_content().replace("\r\n", "\n").rstrip("\n") + "\n",
                "defects": [str(defect) for defect in mail.defects],
            }, out)
            out.write("\n")
        return "250 OK"


def check(server, session, envelope, mechanism, data):
    good = data.login == b"tuxtape" and data.password == b"hunter2"
    return AuthResult(success=good, handled=False)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")


def server():
    return SMTP(
        Handler(),
        hostname="localhost",
        enable_SMTPUTF8=True,
        tls_context=context if "starttls" in modes else None,
        require_starttls="starttls" in modes,
        authenticator=check if "login" in modes else None,
        auth_required="login" in modes,
        auth_require_tls=False,
        loop=loop,
    )


async def main():
    listener = await loop.create_server(
        server, "127.0.0.1", 0, ssl=context if "tls" in modes else None
    )
    print(listener.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever started it, however that ended.
    await loop.run_in_executor(None, sys.stdin.read)


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
