#!/usr/bin/env perl
# serve.pl: a web server on loopback for the tests of scripts that fetch, with the faults that servers have.
#
#   perl dev/test/serve.pl FOLDER >LOG &        the first line of LOG is its port; then a line a request: METHOD PATH FROM STATUS
#
# It serves the files of FOLDER, one request at a time, whole or from a byte on (Range: bytes=N-, as curl asks). What stands
# behind a `?` is part of the file's name, with _ for each / in it; FOLDER/index of a path that ends in /. FILE.fault says what
# goes wrong with a file, a word a line, and those with a number in front only so many more times:
#   cut N       the connection breaks off behind N bytes of what is sent
#   status N    this answer and no more
#   noranges    Range is ignored           nolength    no Content-Length
#   to URL      a redirection              header TEXT a line of the answer's head
# FROM is the first byte asked for, or - . HTTP/1.1 by RFC 9110 and 9112, as far as it goes; only modules of perl itself.
use strict;
use warnings;
use IO::Socket::INET;

my $folder = shift // die "serve.pl: expected a folder\n";
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 16, ReuseAddr => 1)
    or die "serve.pl: cannot listen: $!\n";
$| = 1;
$SIG{PIPE} = 'IGNORE';
print $server->sockport, "\n";

# The words that hold for a file now; what holds for a few times is counted down by GET.
sub faults {
    my ($file, $method) = ("$_[0].fault", $_[1]);
    open my $in, '<', $file or return {};
    my (%now, @left);
    while (my $line = <$in>) {
        chomp $line;
        my ($times, $word, $value) = $line =~ /^(?:(\d+) )?(\w+)(?: (.*))?$/ or die "serve.pl: $file: what is '$line'?\n";
        if (!defined $times || $times > 0) { push @{ $now{$word} }, $value // 1 }
        push @left, defined $times ? ($times > 0 && $method eq "GET" ? $times - 1 : $times) . " $word" . (defined $value ? " $value" : '') : $line;
    }
    close $in;
    open my $to, '>', $file or die "serve.pl: $file: $!\n";
    print $to map { "$_\n" } @left;
    close $to;
    return \%now;
}

while (my $client = $server->accept) {
    my ($request, $from) = (scalar(<$client>) // '', '-');
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?$/;
        $from = $1 if $line =~ /^Range: *bytes=(\d+)-\s*$/i;
    }
    my ($method, $path) = $request =~ m{^(GET|HEAD) (/\S*) HTTP/1} or next;
    my ($name, $query) = split /\?/, $path, 2;
    $name =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    $name .= 'index' if $name =~ m{/$};
    $name .= '?' . $query =~ tr{/}{_}r if defined $query;
    my $file = "$folder$name";
    my $fault = $name =~ m{(^|/)\.\.(/|$)} ? { status => [400] } : faults($file, $method);
    my ($status, $body, $first, @head) = (404, '', 0);
    if ($fault->{status}) { $status = $fault->{status}[0] }
    elsif ($fault->{to}) { $status = 302; push @head, "Location: $fault->{to}[0]" }
    elsif (-f $file && open my $in, '<:raw', $file) {
        $status = 200;
        local $/;
        $body = <$in> // '';
        my $size = length $body;
        if ($from ne '-' && !$fault->{noranges}) {
            if ($from >= $size) { $status = 416; $body = ''; push @head, "Content-Range: bytes */$size" }
            else {
                $status = 206;
                $body = substr $body, $from;
                push @head, "Content-Range: bytes $from-" . ($size - 1) . "/$size";
            }
        }
    }
    push @head, @{ $fault->{header} // [] };
    push @head, 'Content-Length: ' . length $body unless $fault->{nolength};
    $body = substr $body, 0, $fault->{cut}[0] if $fault->{cut} && $fault->{cut}[0] < length $body;
    print "$method $path $from $status\n";
    print $client join("\r\n", "HTTP/1.1 $status -", @head, 'Connection: close', '', ''), $method eq 'HEAD' ? '' : $body;
    close $client;
}
