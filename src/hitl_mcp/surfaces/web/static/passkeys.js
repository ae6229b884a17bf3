// Passkeys: making one, signing in with one, and signing a verdict. The browser asks; what is asked comes from the gateway.

import { post, Refused } from "./api.js";

const TRANSPORTS = ["ble", "cable", "hybrid", "internal", "nfc", "usb"]; // how a passkey is reached: so the right device is asked
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const listed = (list) => (list ?? []).map((one) => ({ ...one, id: bytes(one.id) }));

/** Why this browser cannot use passkeys on this page, or null. */
export function whyNone() {
  if (!window.PublicKeyCredential) return isSecureContext ? "this browser has none" : "the page is not encrypted";
  return null;
}

/** Why nothing was signed: a sentence that can be shown as it is. */
class Unsigned extends Error {
  isSaid = true;
}

/** What the browser said when it did not make or use a passkey, for people. */
function said(error) {
  if (error instanceof Refused) return error;
  const words = {
    NotAllowedError: "Nothing was signed: it was cancelled, took too long, or this device has no passkey for this page.",
    InvalidStateError: "This device has a passkey of yours for this page already.",
    SecurityError: `Passkeys do not work at ${location.host}. Open the page by the link that the gateway prints.`,
    NotSupportedError: "This device makes no passkeys of the kind that is needed: it must ask for your finger, face or PIN.",
  };
  return new Unsigned(words[error.name] ?? `The browser did not use a passkey: ${error.message}`);
}

/** What a passkey signed, as the gateway reads it. */
async function sign(options) {
  const why = whyNone();
  if (why) throw new Unsigned(`There are no passkeys here: ${why}.`);
  try {
    const publicKey = { ...options, challenge: bytes(options.challenge), allowCredentials: listed(options.allowCredentials) };
    const { id, response } = await navigator.credentials.get({ publicKey });
    return {
      id,
      response: {
        clientDataJSON: text(response.clientDataJSON),
        authenticatorData: text(response.authenticatorData),
        signature: text(response.signature),
      },
    };
  } catch (error) {
    throw said(error);
  }
}

/** Sign in without a link: gives what `POST /api/login` gives. */
export async function signIn() {
  return post("api/login", { assertion: await sign(await post("api/login/options")) });
}

/** Add a passkey of this device. A further one is confirmed by one that there is: `confirming()` is called before that. */
export async function enrol(confirming = () => {}) {
  const options = await post("api/passkeys/options");
  let made;
  try {
    made = await navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: listed(options.excludeCredentials),
      },
    });
  } catch (error) {
    throw said(error);
  }
  const { clientDataJSON, attestationObject } = made.response;
  const transports = (made.response.getTransports?.() ?? []).filter((name) => TRANSPORTS.includes(name));
  const credential = { id: made.id, response: { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject), transports } };
  const answer = await post("api/passkeys", { credential });
  if (!answer.confirm) return answer.passkey;
  await confirming();
  return (await post("api/passkeys", { assertion: await sign(answer.confirm) })).passkey;
}

/** Take one of your passkeys away; one of them signs that. */
export async function remove(id) {
  const path = `api/passkeys/${encodeURIComponent(id)}/remove`;
  const { confirm } = await post(path);
  return (await post(path, { assertion: await sign(confirm) })).passkeys;
}

/** What a passkey of yours signs for this verdict of exactly these bytes: `digest` is the one it will count for. */
export async function assertionFor(callId, { verdict, digest }) {
  return sign(await post(`api/calls/${encodeURIComponent(callId)}/verdict/options`, { verdict, digest }));
}
