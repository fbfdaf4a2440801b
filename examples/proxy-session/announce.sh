#!/usr/bin/env bash
# Announces a backend, keeps its session, and ends it in order at SIGTERM.
#
#     announce.sh REGISTRY PORT SERVICE HOSTNAME BACKEND_PORT DOMAIN
#
# Needs nothing but Bash 4 (and `sleep`).
set -u

registry=$1 registry_port=$2 service=$3 hostname=$4 port=$5 domain=$6
# How long a proxy may take to hear that the session has ended.
drain=2
sid=
# A connection that is gone is no reason to end.
trap '' PIPE

say() { printf '%s\n' "$1" >&2; }

# Sends one command and reads one reply.
ask() {
    reply=
    { printf '%s\n' "$1" >&3 && IFS= read -r -t 5 reply <&3; } 2>/dev/null || return
    case $reply in
        # Nothing was changed: again in a moment.
        'ERROR|Unavailable') return 1 ;;
        # Wrong for ever.
        'ERROR|'*)
            say "${1%%|*}: $reply"
            [[ $1 == RECONNECT* ]] || exit 1
            ;;
    esac
}

announce() {
    if [[ -n $sid ]]; then
        ask "RECONNECT|$sid" || return
        [[ $reply == OK ]] || sid=
    fi
    if [[ -z $sid ]]; then
        ask "REGISTER|$service|$hostname|$port|0" || return
        sid=${reply#ACK|}
    fi
    # The same again changes nothing, so this may be repeated.
    ask "ROUTE|$sid|$domain|/|http://$hostname:$port" &&
        ask "HEADER|$sid|X-Served-By|$hostname" &&
        ask "OPTIONS|$sid|timeout|60s"
}

end() {
    trap '' TERM INT
    if [[ -n $sid ]] && ask "SHUTDOWN|$sid"; then
        say "$reply"
        # The backend goes on serving meanwhile, and ends then.
        sleep "$drain"
    fi
    exit 0
}
trap end TERM INT

wait=1
while true; do
    if { exec 3<>"/dev/tcp/$registry/$registry_port"; } 2>/dev/null; then
        if announce; then
            say announced
            wait=1
            # Nothing comes unasked: this waits for the end.
            IFS= read -r _ <&3
        fi
        exec 3>&-
    fi
    say "no connection to $registry:$registry_port; trying again"
    # A random part: everybody comes back at once.
    sleep "$wait.$((RANDOM % 10))"
    ((wait = wait < 15 ? 2 * wait : 15))
done
