# Sourced by the steps of a build that fetch something: they go through the proxy and trust the
# certificate authority that are handed to the build as secrets, so that neither stays in the image.
# shellcheck shell=sh

if [ -s /run/secrets/proxy ]; then
    http_proxy=$(cat /run/secrets/proxy)
    no_proxy=$(cat /run/secrets/no_proxy 2>/dev/null || true)
    export http_proxy https_proxy="$http_proxy" HTTP_PROXY="$http_proxy" HTTPS_PROXY="$http_proxy"
    export no_proxy NO_PROXY="$no_proxy"
fi

authority=
if [ -s /run/secrets/ca ]; then
    authority=/run/secrets/ca
    export SSL_CERT_FILE=$authority PIP_CERT=$authority REQUESTS_CA_BUNDLE=$authority
fi

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq ${authority:+-o "Acquire::https::CaInfo=$authority"} "$@"; }
