#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rule 13 beyond folders: signatures, the list of digests, --production, each with the attack it is there for. The program is copied, so that
# PREFIX/etc/diapason is ours to fill.
. "$(dirname "$0")/../lib.sh" "$1"
. "$src/tests/abi/acme.sh"
command -v openssl > /dev/null || skip "openssl is not installed: run tools/deps --test"

export XDG_STATE_HOME=$work/state XDG_CONFIG_HOME=$work/config
mkdir -p prefix/bin prefix/lib/diapason/plugins prefix/etc/diapason/keys config/diapason/keys
cp "$dia" prefix/bin/
cp "$build"/lib/diapason/plugins/dps-algorithm-sft.* prefix/lib/diapason/plugins/
dia=$work/prefix/bin/diapason
export DIAPASON_PLUGINS=$work/acme
keys=$work/prefix/etc/diapason/keys
for key in acme thief; do
    openssl genpkey -algorithm ed25519 -out "$key.pem" 2> /dev/null
    openssl pkey -in "$key.pem" -pubout -out "$key.pub.pem" 2> /dev/null
done
cp acme.pub.pem "$keys/acme.pem"
refused() { shown "$dia" com.acme.$1 "(.loaded | not) and (.reason | test (\"$2\"))"; }
loads() { shown "$dia" com.acme.$1 ".loaded and .signed_by == \"$2\""; }

acme acme plain
acme acme signed -DLARGER=2 # other bytes
run 0 "$dia" plugins sign acme/signed.plugin --key acme.pem
run 0 "$dia" plugins verify acme/signed.plugin --key acme.pub.pem
loads signed acme
loads plain ""
cp acme/signed.plugin kept
# OpenSSL alone says the same.
head -n -1 acme/signed.plugin > text
sed -n 's/^signature=//p' acme/signed.plugin | sed 's/../\\x&/g' | xargs -0 printf '%b' | head -c 64 > raw
openssl pkeyutl -verify -pubin -inkey acme.pub.pem -rawin -in text -sigfile raw > /dev/null 2>&1 || fail "openssl does not verify what we signed"
ok "signed, unsigned, and openssl's own verdict"

# Attacks on a signed plugin.
run 0 "$dia" plugins sign acme/signed.plugin --key thief.pem --as acme
refused signed 'signed by acme, but: the signature is not that of key'
run 1 "$dia" plugins verify acme/signed.plugin --key acme.pub.pem
cp kept acme/signed.plugin
sed -i 's/^summary=.*/summary=sold to you by a thief/' acme/signed.plugin # one line of the manifest
refused signed 'the signature is not that of key'
acme acme signed -DLOSS_SLOW # another module, digest and all, under the old signature
tail -n 2 kept >> acme/signed.plugin
refused signed 'the signature is not that of key'
cp kept acme/signed.plugin # the old manifest beside the new module
refused signed 'its SHA-256 is'
acme acme signed -DLARGER=2
cp kept acme/signed.plugin
loads signed acme
sed -i 's/^signature=.*/signature=00/' acme/signed.plugin
run 0 "$dia" plugins show signed --json
holds out '(.loaded | not) and (.reason | test ("key .signature. is .00., expected 128"))'
cp kept acme/signed.plugin
echo 'x-more=1' >> acme/signed.plugin # the signature is no longer what comes last
refused signed "manifest's last line is not signature="
cp kept acme/signed.plugin
echo 'not a key' > "$keys/acme.pem"
refused signed 'not an Ed25519 public key'
chmod 666 "$keys/acme.pem"
refused signed 'writable by others'
rm "$keys/acme.pem"
loads signed "" # nobody knows that key: as if unsigned
cp acme.pub.pem config/diapason/keys/acme.pem
loads signed acme # the user's own folder
openssl genpkey -algorithm rsa -out rsa.pem 2> /dev/null
run 1 "$dia" plugins sign acme/plain.plugin --key rsa.pem
said "not an Ed25519 private key"
ok "thief's key, changed line, changed module, old manifest, cut signature, damaged key"

# --production: strangers need a warrant, and the environment says nothing.
options=--production
run 2 "$dia" plugins show plain --production
said "DIAPASON_PLUGINS is ignored: --production"
DIAPASON_PRODUCTION=1 options='' loads plain "" # a flag of the command line, not of the environment
cp acme/* prefix/lib/diapason/plugins/
refused plain '.-production loads what comes with Diapason'
refused signed 'there is no key acme' # the user's own keys do not count
cp acme.pub.pem "$keys/acme.pem"
loads signed acme
shown "$dia" dps.sft .loaded
run 0 "$dia" plugins show dps.ref --production
ok "--production"

# The list: what is not on it is not loaded, signed or not, ours or not; an untrusted one lets nothing in.
list=$work/prefix/etc/diapason/plugins.allow
sha256sum prefix/lib/diapason/plugins/plain.so > "$list"
loads plain ""
refused signed 'its digest is not in .*plugins.allow'
run 0 "$dia" plugins show dps.sft --json
holds out '(.loaded | not) and (.reason | test ("plugins.allow"))'
sha256sum prefix/lib/diapason/plugins/*.so | tr a-f A-F > "$list"
loads signed acme
sed -i "s/^sha256=.*/\U&/; s/^SHA256/sha256/" prefix/lib/diapason/plugins/plain.plugin
loads plain ""
acme prefix/lib/diapason/plugins plain -DLOSS_SLOW # the file is swapped, and its manifest with it
refused plain 'its digest is not in'
chmod 666 "$list"
refused signed 'not loaded, because what may be loaded cannot be read: .*plugins.allow: writable by others'
chmod 644 "$list"
loads signed acme
chmod 777 prefix/etc/diapason
refused signed 'cannot be read: .*etc/diapason: writable by others'
chmod 755 prefix/etc/diapason
mv "$list" real
ln -s "$work/real" "$list"
refused signed 'is a symbolic link'
rm "$list"
ok "the list of digests"

# strip changes bytes: the digest is written again, and a signature of the old ones goes.
cp kept acme/signed.plugin
strip acme/signed.so
unset options
run 0 "$dia" plugins list
DIAPASON_PLUGINS=$work/acme run 0 "$dia" plugins list
grep -q 'acme/signed.so: its SHA-256 is' out || { cat out >&2; fail "a stripped module was loaded"; }
"$src/tools/dev/write-manifest" --again acme/signed.plugin
grep -qx "sha256=$(sha256sum acme/signed.so | cut -d' ' -f1)" acme/signed.plugin || fail "write-manifest --again did not"
if grep -q signature acme/signed.plugin; then fail "a signature of other bytes was kept"; fi
ok "after strip"
