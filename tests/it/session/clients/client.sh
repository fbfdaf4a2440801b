# A backend in Bash: one command, one line.

connect() {
    exec 3<>"/dev/tcp/$host/$port"
}

ask() {
    printf '%s\n' "$1" >&3
    read -r -t 5 reply <&3
    echo "${reply%%|[a-z]*}"
}

host=$1
port=$2

connect
ask "REGISTER|api-service|api-v2|9000|9001"
sid=${reply#ACK|}
ask "ROUTE|$sid|api.example.com|/v2|http://api-v2:9000"
ask "ROUTE|$sid|a.example.com,*.b.example.com|/|http://api-v2:9000"
ask "HEADER|$sid|X-API-Version|2.0"
ask "OPTIONS|$sid|timeout|60s"
ask "VALIDATE|$sid"
ask "MAINT_ENTER|$sid"
ask "MAINT_EXIT|$sid"
ask "PING"
exec 3>&-

connect
ask "RECONNECT|$sid"
ask "ROUTE|$sid|api.example.com|/v3|http://api-v2:9000"
exec 3>&-

connect
ask "RECONNECT|forgotten"
ask "REGISTER|web|web-1|8080|0"
sid=${reply#ACK|}
ask "ROUTE|$sid|web.example.com|/|http://web-1:8080"
ask "SHUTDOWN|$sid"
if read -r -t 5 reply <&3; then echo more; else echo "the end"; fi
